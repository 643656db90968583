"""Runs somebody's training script with the algorithm registered."""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import llt_nncf.register  # noqa: F401  (before the script imports nncf.torch)


def run_script(script: str, arguments: Sequence[str]) -> None:
    """
    Runs ``script`` as ``python script arguments...`` would.

    :param script: Path of a Python file.
    :param arguments: What it finds in ``sys.argv[1:]``.
    """
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).resolve().parent))
    runpy.run_path(script, run_name="__main__")
