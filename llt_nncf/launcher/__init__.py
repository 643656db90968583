"""Runs somebody's program with the algorithm registered, in its own process and in those that it starts."""

from llt_nncf.launcher.program import run_module as run_module
from llt_nncf.launcher.program import run_script as run_script
