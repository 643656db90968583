"""``llt-nncf frontier indicators.json --over gbitops --picture frontier.png``"""

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llt_nncf.allocation import Frontier
from llt_nncf.allocation import FrontierPoint
from llt_nncf.allocation import check_axes
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.artifacts import save_json
from llt_nncf.artifacts import write_atomically
from llt_nncf.cli.frontier_file import FRONTIER_SCHEMA
from llt_nncf.cli.search_options import add_budget_arguments
from llt_nncf.cli.search_options import add_choice_arguments
from llt_nncf.cli.search_options import budget_values
from llt_nncf.cli.search_options import restrictions
from llt_nncf.cost import AXES
from llt_nncf.cost import Budget
from llt_nncf.errors import SearchOptionError
from llt_nncf.plots import picture_format
from llt_nncf.plots import plot_frontier

_POINTS = {1: [20], 2: [10, 10]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("indicators", help="indicators.json of an importance training, or scores of pairs of bits")
    parser.add_argument(
        "--over",
        nargs="+",
        action="append",
        required=True,
        metavar=("AXIS", "FROM TO"),
        help=f"one of {', '.join(AXES)}, from and to which value (default: all that can be met and used); give it "
        "twice for a grid",
    )
    parser.add_argument("--points", nargs="+", type=int, metavar="N", help="points on each axis (default 20, or 10 10)")
    parser.add_argument(
        "--all",
        action="store_true",
        help="every Pareto point of one budget alone, between FROM and TO if these are given",
    )
    parser.add_argument(
        "--mark",
        action="append",
        default=[],
        type=Path,
        metavar="POLICY",
        help="mark a policy.json in table and picture; may be given several times",
    )
    parser.add_argument("-o", "--out", default="frontier.json", help="points with their policies (frontier.json)")
    parser.add_argument("--csv", metavar="FILE", help="points without their policies, as CSV")
    parser.add_argument("--picture", metavar="FILE", help="objective against budget, FILE.png or FILE.svg")
    parser.add_argument("--json", action="store_true", help="print the points as JSON instead of a table")
    add_budget_arguments(parser)
    add_choice_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Traces the frontier, saves it, and prints it; returns 3 if no point has a policy."""
    axes = [over[0] for over in options.over]
    counts = options.points or _POINTS.get(len(axes), [])
    if len(counts) != len(axes) or min(counts) < 1 or any(len(over) not in (1, 3) for over in options.over):
        msg = "Give --over AXIS or --over AXIS FROM TO, once or twice, and as many --points as there are axes."
        raise SearchOptionError(msg)
    check_axes(axes)
    if options.all and options.points:
        msg = "Give --all or --points, not both."
        raise SearchOptionError(msg)
    if options.picture:
        picture_format(options.picture)  # a wrong name is known before the search
    frontier = Frontier(
        load_scored_layers(options.indicators),
        axes,
        # The frontier puts its own values in place of these.
        Budget(**{**budget_values(options), **dict.fromkeys(axes, 1.0)}),
        alpha=options.alpha,
        power=options.power,
        restrictions=restrictions(options),
        outliers=options.outliers,
    )
    if options.all:
        low, high = sorted(_range(options.over[0])) if len(options.over[0]) > 1 else (-np.inf, np.inf)
        points = [point for point in frontier.corners() if low <= point.at[axes[0]] <= high]
    else:
        values = {over[0]: _values(frontier, over, n) for over, n in zip(options.over, counts, strict=True)}
        points = frontier.trace(values, tolerance=options.tolerance, time_limit_s=options.time_limit_s)
    stems = [path.stem for path in options.mark]
    marks = {
        stem if stems.count(stem) == 1 else str(path): frontier.locate(BitPolicy.load(path))
        for stem, path in zip(stems, options.mark, strict=True)
    }
    _save(options, axes, points, marks)
    if options.json:
        print(json.dumps([point.to_dict() for point in points], indent=1))
    else:
        _print(axes, points, marks)
        print(f"Points with their policies: {options.out}")
    return 0 if any(point.objective is not None for point in points) else 3


def _values(frontier: Frontier, over: Sequence[str], count: int) -> list[float]:
    if len(over) == 1:
        return frontier.evenly(over[0], count)
    return np.linspace(*_range(over), count).tolist()


def _range(over: Sequence[str]) -> tuple[float, float]:
    try:
        return float(over[1]), float(over[2])
    except ValueError:
        msg = f"--over {' '.join(over)}: FROM and TO must be numbers."
        raise SearchOptionError(msg) from None


def _save(
    options: argparse.Namespace, axes: Sequence[str], points: Sequence[FrontierPoint], marks: dict[str, Any]
) -> None:
    save_json(options.out, FRONTIER_SCHEMA, {"axes": list(axes), "points": [point.to_dict() for point in points]})
    if options.csv:
        names = ("gbitops", "weight_mib", "compression_ratio")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*(f"at_{axis}" for axis in axes), "objective", "best_bound", *names])
        for point in points:
            totals = [(point.totals or {}).get(name) for name in names]
            writer.writerow([*point.at.values(), point.objective, point.best_bound, *totals])
        write_atomically(options.csv, lambda path: path.write_text(text.getvalue(), encoding="utf-8"))
    if options.picture:
        drawn = [(*point.at.values(), point.objective) for point in points if point.objective is not None]
        plot_frontier(axes, drawn, options.picture, marks={name: (at[axes[0]], y) for name, (at, y) in marks.items()})


def _print(axes: Sequence[str], points: Sequence[FrontierPoint], marks: dict[str, Any]) -> None:
    table = Table(title="Smallest objective within the budget", title_justify="left", title_style="bold")
    for axis in axes:
        table.add_column(f"at {axis}", justify="right")
    for heading in ("objective", "GBitOPs", "MiB", "ratio"):
        table.add_column(heading, justify="right")
    for point in points:
        at = [f"{value:.5g}" for value in point.at.values()]
        if point.totals is None or point.objective is None:
            table.add_row(*at, "none fits", "", "", "")
            continue
        costs = (f"{point.totals['gbitops']:.5g}", f"{point.totals['weight_mib']:.4g}")
        table.add_row(*at, f"{point.objective:.8g}", *costs, f"{point.totals['compression_ratio']:.2f}")
    console = Console(highlight=False)
    console.print(table)
    for name, (at, objective) in marks.items():
        reached = ", ".join(f"{axis} {value:.6g}" for axis, value in at.items())
        console.print(f"{escape(name)}: {reached}, objective {objective:.8g}", soft_wrap=True)
