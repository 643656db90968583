"""The limits that need nothing but the layers; a function each, of the budget's value and the layers that count."""

import math
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llt_nncf.artifacts.layer_table import Layer
from llt_nncf.cost.layer_cost import FULL_PRECISION_BITS
from llt_nncf.cost.layer_cost import GIGA
from llt_nncf.cost.layer_cost import MIB_BITS
from llt_nncf.cost.layer_cost import layer_activation_bits
from llt_nncf.cost.layer_cost import layer_bitops
from llt_nncf.cost.layer_cost import layer_weight_bits
from llt_nncf.cost.limit import LayerCost
from llt_nncf.cost.limit import Limit

_MOST = 2.0**62


def _gbitops(most: float, counted: Sequence[Layer]) -> Limit:
    return _bitops("gbitops", f"{most}", _floor(most * GIGA))


def _bitops_as(pair: tuple[int, int], counted: Sequence[Layer]) -> Limit:
    total = sum(layer_bitops(layer, *layer.uniform_bits(*pair)) for layer in counted)
    return _bitops("bitops_as", f"{pair} ({total / GIGA:.6g} GBitOPs)", total)


def _bitops(name: str, given: str, most: int) -> Limit:
    return Limit(
        name, given, layer_bitops, most, "GBitOPs", lambda n: n / GIGA, price_unit="GBitOP", price_size=float(GIGA)
    )


def _compression_ratio(least: float, counted: Sequence[Layer]) -> Limit:
    full = FULL_PRECISION_BITS * sum(layer.weight_count for layer in counted)
    return _size("compression_ratio", least, _floor(full / least), "x", lambda n: full / n if n else math.inf)


def _weight_mib(most: float, counted: Sequence[Layer]) -> Limit:
    return _size("weight_mib", most, _floor(most * MIB_BITS), "MiB", lambda n: n / MIB_BITS)


def _size(name: str, given: float, most: int, unit: str, in_unit: Callable[[int], float]) -> Limit:
    return Limit(
        name,
        f"{given}",
        layer_weight_bits,
        most,
        unit,
        in_unit,
        larger_is_tighter=unit == "x",
        needs_activations=False,
        price_unit="MiB",
        price_size=float(MIB_BITS),
    )


def _average_weight_bits(most: float, counted: Sequence[Layer]) -> Limit:
    total = sum(layer.weight_count for layer in counted)
    limit = _average("average_weight_bits", most, layer_weight_bits, total, "weight")
    return replace(limit, needs_activations=False)


def _average_activation_bits(most: float, counted: Sequence[Layer]) -> Limit:
    total = sum(layer.macs for layer in counted)
    limit = _average("average_activation_bits", most, layer_activation_bits, total, "MAC")
    return replace(limit, needs_weights=False)


def _average(name: str, most: float, cost: LayerCost, total: int, counts: str) -> Limit:
    return Limit(
        name,
        f"{most}",
        cost,
        _floor(most * total),
        f"bits per {counts}",
        lambda n: n / max(total, 1),
        price_unit=f"bit per {counts}",
        price_size=float(total),
    )


def _floor(value: float) -> int:
    """Rounds down, but up over the float's last bits, so that a reported total given back as a limit is met."""
    return math.floor(min(value * (1 + 1e-15), _MOST))


# Field of the budget to what makes its limit.
NAMED_LIMITS: dict[str, Callable[[Any, Sequence[Layer]], Limit]] = {
    "gbitops": _gbitops,
    "bitops_as": _bitops_as,
    "compression_ratio": _compression_ratio,
    "weight_mib": _weight_mib,
    "average_weight_bits": _average_weight_bits,
    "average_activation_bits": _average_activation_bits,
}
