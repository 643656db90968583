"""``llt-nncf run main.py ARGS...`` and ``llt-nncf run -m package.module ARGS...``"""

import argparse
import sys
from pathlib import Path

from llt_nncf.errors import ArtifactError
from llt_nncf.launcher import run_module
from llt_nncf.launcher import run_script


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("-m", action="store_true", dest="is_module", help="PROGRAM is a module, as in python -m")
    parser.add_argument("program", metavar="PROGRAM", help="a Python file that calls create_compressed_model")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the program's own arguments")


def run(options: argparse.Namespace) -> int:
    """Runs the program; its exceptions and exit status are its own. ArtifactError if there is none."""
    if not options.is_module and not Path(options.program).is_file():
        msg = f"{options.program}: no such script."
        raise ArtifactError(msg)
    start = run_module if options.is_module else run_script
    try:
        start(options.program, options.arguments)
    except Exception:
        # As Python ends. Left to the command line, an error of ours or of the system would lose its traceback.
        sys.excepthook(*sys.exc_info())
        return 1
    return 0
