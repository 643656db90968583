"""Entry point: picks the subcommand, imports it alone, and words errors for a terminal."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from llt_nncf import __version__
from llt_nncf.errors import LltError

# Listed here so that --help, and every other subcommand, does not pay for importing torch or an engine.
_COMMANDS = {
    "run": "run a training script with the algorithm registered",
    "allocate": "choose every layer's bits from indicators.json under a budget",
    "validate": "compare an exported model with its PyTorch reference, in ONNX Runtime and OpenVINO",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs one subcommand.

    :param arguments: The command line without the program's name; by default that of the process.
    :return: Exit status: 0, 1 for a validation that failed, 2 for bad input.
    """
    parser = argparse.ArgumentParser(
        prog="llt-nncf",
        description="Mixed-precision quantization by learned layer-wise importance.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "\n".join(f"  {name:<10}{text}" for name, text in _COMMANDS.items()),
    )
    parser.add_argument("--version", action="version", version=f"llt-nncf {__version__}")
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help="see below; llt-nncf COMMAND --help")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the command's own arguments")
    options = parser.parse_args(arguments)
    command = importlib.import_module(f"llt_nncf.cli.{options.command}")
    own_parser = argparse.ArgumentParser(prog=f"llt-nncf {options.command}", description=_COMMANDS[options.command])
    command.add_arguments(own_parser)
    try:
        return command.run(own_parser.parse_args(options.arguments))
    except LltError as error:
        print(f"llt-nncf {options.command}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
