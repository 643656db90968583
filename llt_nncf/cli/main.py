"""Entry point: picks the subcommand, imports it alone, and words errors for a terminal."""

import argparse
import importlib
import shutil
import sys
import textwrap
from collections.abc import Sequence

from llt_nncf import __version__
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import LltError
from llt_nncf.errors import SearchNotProvenError

# Listed here so that --help, and every other subcommand, does not pay for importing torch or an engine.
_COMMANDS = {
    "run": "run a training script with the algorithm registered",
    "search": "choose every layer's bits from indicators.json within a budget, proven optimal",
    "frontier": "the best policies over a range of one budget, or a grid of two",
    "plot": "draw a policy, indicators, a training, a frontier or a comparison, as PNG or SVG",
    "import-limpq": "turn the LIMPQ authors' pickle into indicators.json",
    "latency-table": "measure an exported model's layers on this CPU, as a budget for the search",
    "export": "turn a training checkpoint into ONNX and OpenVINO files, left in place only if they pass validation",
    "validate": "compare an exported model with its PyTorch reference, in ONNX Runtime and OpenVINO",
    "inspect": "read an exported file back: layers, bits, containers, kernels, and its policy.json",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs one subcommand.

    :param arguments: The command line without the program's name; by default that of the process.
    :return: Exit status: 0; 1 for a validation or an export that failed, or a search that ran out of time; 2 for bad
        input; 3 for a budget that no policy meets.
    """
    parser = argparse.ArgumentParser(
        prog="llt-nncf",
        description="Mixed-precision quantization by learned layer-wise importance.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["commands:", *map(_command_help, _COMMANDS)]),
    )
    parser.add_argument("--version", action="version", version=f"llt-nncf {__version__}")
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help="see below; llt-nncf COMMAND --help")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the command's own arguments")
    options = parser.parse_args(arguments)
    command = importlib.import_module(f"llt_nncf.cli.{options.command.replace('-', '_')}")
    own_parser = argparse.ArgumentParser(prog=f"llt-nncf {options.command}", description=_COMMANDS[options.command])
    command.add_arguments(own_parser)
    try:
        return command.run(own_parser.parse_args(options.arguments))
    except (LltError, OSError) as error:
        print(f"llt-nncf {options.command}: {type(error).__name__}: {error}", file=sys.stderr)
        statuses = {SearchNotProvenError: 1, InfeasibleBudgetError: 3}
        return next((status for kind, status in statuses.items() if isinstance(error, kind)), 2)


def _command_help(name: str) -> str:
    """The command's line, wrapped at the width of the terminal."""
    width = max(40, shutil.get_terminal_size().columns - 2)
    head = f"  {name:<15}"
    return textwrap.fill(_COMMANDS[name], width, initial_indent=head, subsequent_indent=" " * len(head))
