"""Arguments that ``search`` and ``frontier`` share."""

import argparse
from typing import Any

from llt_nncf.allocation import Restrictions
from llt_nncf.artifacts import CostTable
from llt_nncf.errors import SearchOptionError


def add_budget_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a budget's limits."""
    group = parser.add_argument_group("budget", "one or more of these; first and last layer count at their fixed bits")
    group.add_argument("--bitops-as", nargs=2, type=int, metavar=("W", "A"), help="at most the BitOPs of uniform W/A")
    group.add_argument("--gbitops", type=float, help="at most this many 1e9 BitOPs")
    group.add_argument("--compression-ratio", type=float, help="weights at least this many times smaller than 32-bit")
    group.add_argument("--weight-mib", type=float, help="at most this size of the weights, in 2**20 bytes")
    group.add_argument("--average-weight-bits", type=float, help="at most this many bits per weight")
    group.add_argument("--average-activation-bits", type=float, help="at most this many, layers counting by their MACs")
    group.add_argument("--latency-ms", type=float, help="at most this many milliseconds, by --latency-table")
    group.add_argument("--latency-table", metavar="FILE", help="made by llt-nncf latency-table")
    group.add_argument(
        "--table",
        nargs=2,
        action="append",
        default=[],
        metavar=("FILE", "MOST"),
        help="at most this much of any cost table, in its unit; may be given several times",
    )
    group.add_argument(
        "--without-fixed",
        action="append",
        default=[],
        metavar="LIMIT",
        help="a limit that leaves out the fixed layers, for example gbitops; may be given several times",
    )


def add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what decides between policies, and what may be chosen."""
    parser.add_argument(
        "--alpha",
        type=_number_or_auto,
        default=4.0,
        help="weight of the weights' indicators (default: %(default)s); auto: balanced with the activations'",
    )
    parser.add_argument(
        "--power",
        type=float,
        default=2.0,
        help="of the indicators (default: %(default)s): their squares go with the power of the rounding noise; the "
        "paper has 1, with --alpha 1 to 3",
    )
    parser.add_argument(
        "--outliers",
        default="repair",
        choices=["repair", "keep", "error"],
        help="indicators that fall as the bits do: mend them (default), take them as they are, or refuse them",
    )
    group = parser.add_argument_group("restrictions")
    for kind in ("weight", "activation"):
        group.add_argument(
            f"--{kind}-bits",
            action="append",
            default=[],
            metavar="PATTERN=BITS",
            help=f"{kind} bits that these layers may have, for example 'layer1.*=4,3'; may be given several times",
        )
    group.add_argument("--weight-only", action="store_true", help="activations stay at their highest candidate")
    group.add_argument("--tied", action="store_true", help="weights and input of a layer get the same bits")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative gap to stop at (default 0: proven)")
    parser.add_argument("--time-limit-s", type=float, default=60.0, help="longest time of the solver (default 60)")


def _number_or_auto(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        msg = f"{text!r} is neither a number nor auto"
        raise argparse.ArgumentTypeError(msg) from None


def budget_values(options: argparse.Namespace) -> dict[str, Any]:
    """
    Returns the keywords of a ``Budget``.

    :raises ArtifactError: If a table is missing or malformed.
    :raises SearchOptionError: If the limit of a table is no number.
    """
    values = {
        "gbitops": options.gbitops,
        "bitops_as": options.bitops_as and tuple(options.bitops_as),
        "compression_ratio": options.compression_ratio,
        "weight_mib": options.weight_mib,
        "average_weight_bits": options.average_weight_bits,
        "average_activation_bits": options.average_activation_bits,
        "latency_ms": options.latency_ms,
        "latency_table": options.latency_table and CostTable.load(options.latency_table),
        "tables": tuple((CostTable.load(path), _number(most)) for path, most in options.table),
        "without_fixed": tuple(options.without_fixed),
    }
    return {name: value for name, value in values.items() if value is not None}


def restrictions(options: argparse.Namespace) -> Restrictions:
    """
    Returns the restrictions.

    :raises SearchOptionError: If one is not of the form ``PATTERN=BITS``.
    """
    return Restrictions(
        weight_bits=_bits_by_pattern("--weight-bits", options.weight_bits),
        activation_bits=_bits_by_pattern("--activation-bits", options.activation_bits),
        weight_only=options.weight_only,
        tied=options.tied,
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        msg = f"--table: {text!r} must be a number: --table FILE MOST."
        raise SearchOptionError(msg) from None


def _bits_by_pattern(option: str, rules: list[str]) -> dict[str, tuple[int, ...]]:
    result: dict[str, tuple[int, ...]] = {}
    for rule in rules:
        pattern, _, bits = rule.rpartition("=")
        if pattern in result:
            msg = f"{option}: the pattern {pattern!r} is given twice; give it once, with the bits that both allow."
            raise SearchOptionError(msg)
        try:
            result[pattern] = tuple(int(text) for text in bits.split(","))
        except ValueError:
            result[pattern] = ()
        if not pattern or not result[pattern]:
            msg = f"{option}={rule!r} must be of the form PATTERN=BITS, for example 'layer1.*=4,3'."
            raise SearchOptionError(msg)
    return result
