"""One additive limit on a policy, in integers, with the words to report it in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llt_nncf.artifacts.layer_table import Layer

LayerCost = Callable[[Layer, Any, Any], Any]


@dataclass(frozen=True)
class Limit:
    """
    At most ``limit`` of a cost that adds up over the layers.

    :param name: The budget's field that it came from, for example ``compression_ratio``, or a cost table's name.
    :param given: What the user wrote there, for example ``12.2``.
    :param cost: Integer cost of (layer, weight bits, activation bits), defined for the layer's candidates. Bits may be
        integer arrays that broadcast; so does the result then.
    :param limit: The most that all layers together may cost.
    :param unit: Unit of ``in_unit``'s result, for example ``MiB``.
    :param in_unit: Converts an integer total to the unit of the budget.
    :param larger_is_tighter: Whether the budget's own number falls as the cost rises, as a compression ratio does.
    :param needs_activations: Whether the cost depends on activation bits.
    :param needs_weights: Whether it depends on weight bits.
    :param price_unit: What more of the budget is sold in, for example ``GBitOP``.
    :param price_size: That unit in integer costs, for example 1e9.
    """

    name: str
    given: str
    cost: LayerCost
    limit: int
    unit: str
    in_unit: Callable[[int], float]
    larger_is_tighter: bool = False
    needs_activations: bool = True
    needs_weights: bool = True
    price_unit: str = "unit"
    price_size: float = 1.0
