"""``llt-nncf latency-table indicators.json model.onnx -o latency.json``"""

import argparse

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.validation import measure_layers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("indicators", help="indicators.json, for the layers and their candidates")
    parser.add_argument(
        "model", help="an ONNX file of the model, exported by this package or by PyTorch, also in float"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of one inference (default 1)")
    parser.add_argument("--rounds", type=int, default=30, help="interleaved timing rounds (default 30)")
    parser.add_argument("-o", "--out", default="latency.json", help="where the table goes (default latency.json)")


def run(options: argparse.Namespace) -> int:
    """Measures, saves the table, and prints what was executed."""
    layers = load_scored_layers(options.indicators).table
    table = measure_layers(layers, options.model, rounds=options.rounds, num_threads=options.threads)
    path = table.save(options.out)
    _print(table)
    print(f"Latency table: {path}")
    return 0


def _print(table: CostTable) -> None:
    console = Console(highlight=False)
    title = "Milliseconds of single layers, and which bits share them"
    rich_table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    rich_table.add_column("layer", overflow="fold")
    for heading in ("float", "ms"):
        rich_table.add_column(heading, justify="right", no_wrap=True)
    rich_table.add_column("bits", no_wrap=True)
    rich_table.add_column("kernel", overflow="fold")
    for name, row in table.details["layers"].items():
        for number, executed in enumerate(row["executed"]):
            head = ("", "") if number else (escape(name), f"{row['float']['ms']:.3f}")
            *before, kernel = executed["kernel"].split(" + ")
            in_short = "clip + " * bool(before) + kernel.split()[-1]
            rich_table.add_row(*head, f"{executed['ms']:.3f}", _bits(executed["pairs"]), escape(in_short))
    console.print(rich_table)
    console.print(escape(table.source))


def _bits(pairs: list[str]) -> str:
    """
    Returns pairs of bits in short.

    >>> _bits(["w4a3", "w4a2", "w3a3", "w3a2", "w2a3", "w2a2"])
    'w2-4 a2,3'
    """
    weights, activations = (sorted({int(pair[position]) for pair in pairs}) for position in (1, 3))
    return f"w{_range(weights)} a{_range(activations)}"


def _range(bits: list[int]) -> str:
    is_range = len(bits) > 2 and bits[-1] - bits[0] == len(bits) - 1
    return f"{bits[0]}-{bits[-1]}" if is_range else ",".join(map(str, bits))
