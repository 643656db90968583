"""A Python program, run as the interpreter would run it."""

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from llt_nncf.launcher.import_hook import register_with_nncf

_PROCESS_START = Path(__file__).parent / "process_start"


def run_script(script: str, arguments: Sequence[str]) -> None:
    """
    Runs ``script`` as ``python script arguments...`` would, with the algorithm registered once it imports nncf.

    So it is in every Python process that the program starts with the environment that it was given itself:
    by multiprocessing (spawn, forkserver and fork), by subprocess, by torchrun.

    :param script: Path of a Python file.
    :param arguments: What it finds in ``sys.argv[1:]``.
    """
    _prepare(str(Path(script).resolve().parent))
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def run_module(module: str, arguments: Sequence[str]) -> None:
    """
    Runs ``module`` as ``python -m module arguments...`` would, and otherwise as ``run_script`` does.

    :param module: Dotted name of a module, or of a package with a ``__main__``.
    :param arguments: What it finds in ``sys.argv[1:]``.
    """
    _prepare(os.getcwd())
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _prepare(program_folder: str) -> None:
    # In front of what the command line has there, the folder of llt-nncf itself.
    sys.path.insert(0, program_folder)
    register_with_nncf()
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if str(_PROCESS_START) not in others:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(_PROCESS_START), *others])
