"""``llt-nncf run main.py ARGS...``"""

import argparse
from pathlib import Path

from llt_nncf.errors import ArtifactError
from llt_nncf.launcher import run_script


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("script", help="a Python file that calls create_compressed_model")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")


def run(options: argparse.Namespace) -> int:
    """Runs the script; its exceptions and exit status are its own. ArtifactError if there is none."""
    if not Path(options.script).is_file():
        msg = f"{options.script}: no such script."
        raise ArtifactError(msg)
    run_script(options.script, options.arguments)
    return 0
