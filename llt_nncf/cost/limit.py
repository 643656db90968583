"""One additive limit on a policy, in integers, with the words to report it in."""

from collections.abc import Callable
from dataclasses import dataclass

from llt_nncf.artifacts.layer_table import Layer


@dataclass(frozen=True)
class Limit:
    """
    At most ``limit`` of a cost that adds up over the layers.

    :param name: The budget's field that it came from, for example ``compression_ratio``.
    :param given: What the user wrote there, for example ``12.2``.
    :param cost: Integer cost of (layer, weight bits, activation bits), defined for the layer's candidates.
    :param limit: The most that all layers together may cost.
    :param unit: Unit of ``in_unit``'s result, for example ``MiB``.
    :param in_unit: Converts an integer total to the unit of the budget.
    :param larger_is_tighter: Whether the budget's own number falls as the cost rises, as a compression ratio does.
    :param needs_activations: Whether the cost depends on activation bits.
    """

    name: str
    given: str
    cost: Callable[[Layer, int, int], int]
    limit: int
    unit: str
    in_unit: Callable[[int], float]
    larger_is_tighter: bool = False
    needs_activations: bool = True
