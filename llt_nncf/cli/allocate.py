"""``llt-nncf allocate indicators.json --bitops-as 3 4 --out policy.json``"""

import argparse

from rich.console import Console
from rich.table import Table

from llt_nncf.allocation import Allocation
from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.cost import Budget


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("indicators", help="indicators.json of an importance training")
    parser.add_argument("--bitops-as", nargs=2, type=int, metavar=("W", "A"), help="at most the BitOPs of uniform W/A")
    parser.add_argument("--gbitops", type=float, help="at most this many 1e9 BitOPs")
    parser.add_argument("--compression-ratio", type=float, help="weights at least this many times smaller than 32-bit")
    parser.add_argument("--weight-mib", type=float, help="at most this size of the weights, in 2**20 bytes")
    parser.add_argument(
        "--alpha",
        type=lambda text: text if text == "auto" else float(text),
        default=1.0,
        help="weight of the weights' indicators (default 1), or auto: balanced with the activations'",
    )
    parser.add_argument("--time-limit-s", type=float, default=60.0, help="longest search (default 60)")
    parser.add_argument("--out", default="policy.json", help="where the policy goes (default policy.json)")


def run(options: argparse.Namespace) -> int:
    """Searches, saves the policy, and prints it with its proof."""
    indicators = IndicatorTable.load(options.indicators)
    budget = Budget(
        gbitops=options.gbitops,
        bitops_as=None if options.bitops_as is None else tuple(options.bitops_as),
        compression_ratio=options.compression_ratio,
        weight_mib=options.weight_mib,
    )
    allocation = allocate_bits(indicators, budget, alpha=options.alpha, time_limit_s=options.time_limit_s)
    path = allocation.policy.save(options.out)
    _print(indicators, allocation)
    print(f"Policy: {path}")
    return 0


def _print(indicators: IndicatorTable, allocation: Allocation) -> None:
    console = Console()
    layers = Table(title="Bits per layer", title_justify="left")
    for heading in ("layer", "weights", "activations", "MMACs", "weight count"):
        layers.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in indicators.table.layers:
        weight_bits, activation_bits = allocation.policy.bits[layer.name]
        counts = (f"{layer.macs / 1e6:.3f}", f"{layer.weight_count:,}")
        layers.add_row(layer.name, str(weight_bits), str(activation_bits), *counts)
    console.print(layers)
    cost = allocation.cost
    console.print(
        f"objective {allocation.objective:.9g}, bound {allocation.best_bound:.9g}, {allocation.status} "
        f"in {allocation.search_ms:.0f} ms\n{cost.gbitops:.6g} GBitOPs, {cost.weight_mib:.4g} MiB, "
        f"{cost.compression_ratio:.2f}x smaller than 32-bit weights",
        highlight=False,
    )
