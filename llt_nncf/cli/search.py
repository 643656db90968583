"""``llt-nncf search indicators.json --bitops-as 3 4 --compression-ratio 12.2 -o policy.json``"""

import argparse
import json
import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llt_nncf.allocation import Allocation
from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.cli.search_options import add_budget_arguments
from llt_nncf.cli.search_options import add_choice_arguments
from llt_nncf.cli.search_options import budget_values
from llt_nncf.cli.search_options import restrictions
from llt_nncf.cost import Budget


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("indicators", help="indicators.json of an importance training, or scores of pairs of bits")
    add_budget_arguments(parser)
    add_choice_arguments(parser)
    parser.add_argument("--k-best", type=int, default=1, metavar="K", help="list the K best policies (default 1)")
    parser.add_argument("--explain", action="store_true", help="show what the next bit up or down would cost")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of tables")
    parser.add_argument("-o", "--out", default="policy.json", help="where the best policy goes (default policy.json)")


def run(options: argparse.Namespace) -> int:
    """Searches, saves the policy, and prints it with its proof."""
    indicators = load_scored_layers(options.indicators)
    allocation = allocate_bits(
        indicators,
        Budget(**budget_values(options)),
        alpha=options.alpha,
        power=options.power,
        restrictions=restrictions(options),
        outliers=options.outliers,
        k_best=options.k_best,
        tolerance=options.tolerance,
        time_limit_s=options.time_limit_s,
        explain=options.explain,
    )
    path = allocation.policy.save(options.out)
    if options.json:
        print(json.dumps({**allocation.to_dict(), "policy_file": str(path)}, indent=1))
        return 0
    console = Console(highlight=False)
    if options.explain:
        _print_next_bits(console, indicators.table, allocation)
    else:
        _print_bits(console, indicators.table, allocation)
    _print_limits(console, allocation)
    if options.k_best > 1:
        _print_ranking(console, allocation)
    _print_outliers(console, allocation, options.outliers)
    cost = allocation.cost
    gap = "" if allocation.status == "optimal" else f" (gap {allocation.gap:.2g})"
    console.print(
        f"objective {allocation.objective:.10g}, {allocation.status}{gap}, in {allocation.search_ms:.0f} ms\n"
        f"{cost.gbitops:.6g} GBitOPs, {cost.weight_mib:.4g} MiB, {cost.compression_ratio:.2f}x smaller than 32-bit"
    )
    console.print(f"Policy: {escape(str(path))}", soft_wrap=True)
    return 0


def _table(title: str, left: str, *right: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(left, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print_bits(console: Console, layers: LayerTable, allocation: Allocation) -> None:
    table = _table("Bits per layer", "layer", "weights", "activations", "MMACs", "weight count")
    for layer in layers.layers:
        weight_bits, activation_bits = allocation.policy.bits[layer.name]
        counts = (f"{layer.macs / 1e6:.3f}", f"{layer.weight_count:,}")
        table.add_row(escape(layer.name), str(weight_bits), str(activation_bits), *counts)
    console.print(table)


def _print_limits(console: Console, allocation: Allocation) -> None:
    table = _table("Budget", "limit", "used", "allowed", "one more", "buys")
    for use in allocation.limits:
        buys = f"{use.multiplier:.4g}" if use.binds else "-"
        name = f"{escape(use.name)}, {escape(use.unit)}"
        table.add_row(name, f"{use.used:.6g}", f"{use.limit:.6g}", escape(use.multiplier_unit), buys)
    console.print(table)


def _print_ranking(console: Console, allocation: Allocation) -> None:
    table = _table("Best policies", "differs from the best in", "objective", "more", "GBitOPs", "MiB")
    best = allocation.ranking[0]
    for ranked in allocation.ranking:
        changes = [
            f"{escape(name)} W{w}A{a}"
            for name, (w, a) in ranked.policy.bits.items()
            if best.policy.bits[name] != (w, a)
        ]
        more = ranked.objective - best.objective
        costs = (f"{ranked.cost.gbitops:.5g}", f"{ranked.cost.weight_mib:.4g}")
        table.add_row(", ".join(changes) or "-", f"{ranked.objective:.9g}", f"{more:.2g}", *costs)
    console.print(table)


def _print_outliers(console: Console, allocation: Allocation, rule: str) -> None:
    if not allocation.outliers:
        return
    done = {"repair": "mended", "keep": "kept"}[rule]
    table = _table(f"Indicators that fall as the bits do, {done}", "quantizer", "bits", "indicator", "searched with")
    for outlier in allocation.outliers:
        for bits in sorted(outlier.given, reverse=True):
            name = f"{outlier.kind} of {escape(outlier.name)}" if bits == max(outlier.given) else ""
            table.add_row(name, str(bits), f"{outlier.given[bits]:.5g}", f"{outlier.searched_with[bits]:.5g}")
    console.print(table)


def _print_next_bits(console: Console, layers: LayerTable, allocation: Allocation) -> None:
    # All alike, so that they can be compared down a column; the largest has four digits that count.
    largest = max((abs(row.net_loss) for row in allocation.next_bits), default=0.0)
    decimals = max(0, 3 - math.floor(math.log10(largest))) if largest else 0
    steps = {
        (row.layers[0], row.kind, row.to_bits > row.from_bits): f"{row.net_loss:.{decimals}f}{'' if row.fits else '*'}"
        for row in allocation.next_bits
    }
    title = "Bits per layer, and what the next bit up or down would cost"
    table = _table(title, "layer", "W", "up", "down", "A", "up", "down")
    for layer in layers.layers:
        is_first = layers.groups[layer.activation_group][0] is layer
        cells = []
        for kind, bits in zip(("weights", "activations"), allocation.policy.bits[layer.name], strict=True):
            shared = ["shared", ""] if kind == "activations" and not is_first else []
            cells += [str(bits), *(shared or [steps.get((layer.name, kind, up), "") for up in (True, False)])]
        table.add_row(escape(layer.name), *cells)
    console.print(table)
    console.print(
        "Cost: the change of the objective, and that of the budgets at what they buy (below). *: exceeds a limit."
    )
