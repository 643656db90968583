"""``llt-nncf import-limpq importance_indicators_resnet50.pkl --model resnet50``, which imports torch."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llt_nncf.limpq import ModelLayer
from llt_nncf.limpq import convert_indicators
from llt_nncf.limpq import load_plain_pickle
from llt_nncf.limpq import survey_torchvision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("pickle", type=Path, help="the authors' importance_indicators_*.pkl")
    parser.add_argument("--model", default="resnet50", help="classifier of torchvision (default resnet50)")
    parser.add_argument("--image-size", type=int, default=224, help="side of the input (default 224)")
    parser.add_argument(
        "--macs",
        default="floored",
        choices=["floored", "authors"],
        help="rounded down side by side (default), or as the authors count them, to reproduce their policy",
    )
    parser.add_argument("--fixed-bits", type=int, default=8, help="bits of layers that are not in it (default 8)")
    parser.add_argument("-o", "--out", default="indicators.json", help="where they go (default indicators.json)")


def run(options: argparse.Namespace) -> int:
    """Converts the file, and prints where the authors' MACs differ."""
    layers = survey_torchvision(options.model, image_size=options.image_size)
    indicators = convert_indicators(
        load_plain_pickle(options.pickle),
        layers,
        use_authors_macs=options.macs == "authors",
        fixed_bits=options.fixed_bits,
        where=options.pickle.name,
    )
    path = indicators.save(options.out)
    _print(layers)
    searched = sum(not layer.is_fixed for layer in indicators.table.layers)
    print(f"{len(layers)} layers, {searched} of them searched, with MACs {options.macs}: {path}")
    return 0


def _print(layers: Sequence[ModelLayer]) -> None:
    table = Table(title="MMACs where the authors' count differs", title_justify="left", title_style="bold")
    table.add_column("layer")
    for heading in ("floored", "authors", "more"):
        table.add_column(heading, justify="right")
    for layer in layers:
        if layer.macs != layer.macs_authors:
            more = layer.macs_authors / layer.macs - 1
            row = (f"{layer.macs / 1e6:.3f}", f"{layer.macs_authors / 1e6:.3f}", f"{more:+.1%}")
            table.add_row(escape(layer.name), *row)
    floored, authors = sum(layer.macs for layer in layers), sum(layer.macs_authors for layer in layers)
    table.add_row("all layers", f"{floored / 1e6:.3f}", f"{authors / 1e6:.3f}", f"{authors / floored - 1:+.1%}")
    Console(highlight=False).print(table)
