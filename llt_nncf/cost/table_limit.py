"""A limit on a cost table, in integers."""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from llt_nncf.artifacts.cost_table import CostTable
from llt_nncf.artifacts.layer_table import Layer
from llt_nncf.cost.limit import Limit
from llt_nncf.errors import BudgetError
from llt_nncf.errors import some_of

_MOST_UNITS = 2**50  # floats count whole numbers exactly up to 2**53
_SMALLEST = 1e-200  # and below 1e-308 they are none; largest sums mirror it


def table_limit(table: CostTable, most: float, counted: Sequence[Layer], *, name: str) -> Limit:
    """
    Counts the costs in a power of ten so small that their sum has some 15 digits.

    :param table: The costs.
    :param most: The most that they may add up to, in the table's unit.
    :param counted: The layers that count.
    :param name: Of the limit.
    :raises BudgetError: If the table lacks a layer or a pair of its candidates.
    """
    pairs = {layer.name: list(product(layer.weight_bits, layer.activation_bits)) for layer in counted}
    rows = {layer: table.costs.get(layer, {}) for layer in pairs}
    missing = [f"{layer!r} w{w}a{a}" for layer, wanted in pairs.items() for w, a in wanted if (w, a) not in rows[layer]]
    if missing:
        msg = f"{name}: the cost table {table.name!r} has no cost for {some_of(missing, 10)}."
        raise BudgetError(msg)
    largest = sum(max(rows[layer][pair] for pair in wanted) for layer, wanted in pairs.items())
    if not (largest == 0 or _SMALLEST < largest < 1 / _SMALLEST):
        msg = f"{name}: the costs of table {table.name!r} add up to {largest:.3g}: give them in another unit."
        raise BudgetError(msg)
    units = 10.0 ** math.floor(math.log10(_MOST_UNITS / largest)) if largest > 0 else 1.0
    costs = {layer: np.zeros((9, 9), np.int64) for layer in pairs}
    for layer, wanted in pairs.items():
        for pair in wanted:
            costs[layer][pair] = round(rows[layer][pair] * units)
    return Limit(
        name,
        f"{most}",
        lambda layer, w, a: costs[layer.name][w, a],
        round(min(most, 2 * largest) * units),
        table.unit,
        lambda n: n / units,
        price_unit=table.unit,
        price_size=units,
    )
