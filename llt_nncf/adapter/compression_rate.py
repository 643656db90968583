"""
The number that NNCF's accuracy-aware training turns: the share of BitOPs that a policy saves against 8 bits everywhere.

0 is 8 bits in all layers, 0.75 is 4 bits, 0.9375 is 2 bits; fixed layers count at their bits.
"""

import math
from dataclasses import replace

from llt_nncf.adapter.policy_search import restrictions_of
from llt_nncf.adapter.policy_search import search_policies
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.config import LltConfig
from llt_nncf.cost import Budget
from llt_nncf.cost import PolicyCost
from llt_nncf.cost.layer_cost import GIGA
from llt_nncf.cost.layer_cost import layer_bitops
from llt_nncf.errors import StageError

_FULL_BITS = 8


def rate_of(policy: BitPolicy, table: LayerTable) -> float:
    """Returns the rate of ``policy``."""
    return 1.0 - PolicyCost.from_policy(policy, table).bitops / _full_bitops(table)


def highest_rate(config: LltConfig, table: LayerTable) -> float:
    """Returns the rate of the lowest bits that the config's restrictions leave to each layer."""
    allowed = restrictions_of(config).allowed(table)
    least = sum(
        min(
            layer_bitops(layer, layer.weight_bits[w], layer.activation_bits[a])
            for a, w in zip(*allowed[layer.name].nonzero(), strict=True)
        )
        for layer in table.layers
    )
    return 1.0 - least / _full_bitops(table)


def search_at_rate(rate: float, config: LltConfig, indicators: IndicatorTable | None, table: LayerTable) -> BitPolicy:
    """
    Finds the best policy of at least ``rate``, which takes the place of the budget's limits on BitOPs; others hold.

    :param rate: Below 1.
    :param config: The section's values.
    :param indicators: Of this model.
    :param table: The model's layers.
    :raises StageError: If there are no indicators.
    :raises InfeasibleBudgetError: If the lowest bits do not reach the rate.
    """
    if indicators is None:
        msg = (
            "Setting compression_rate searches again, which needs indicators: let importance training make them, or "
            "name a saved indicators.json in compression.indicators."
        )
        raise StageError(msg)
    # Rounded up to a whole BitOP, which is less than floats can tell from the exact rate.
    gbitops = math.ceil((1.0 - rate) * _full_bitops(table)) / GIGA
    budget = Budget(gbitops=gbitops)
    if config.budget is not None:
        without_fixed = tuple(x for x in config.budget.without_fixed if x not in ("gbitops", "bitops_as"))
        budget = replace(config.budget, gbitops=gbitops, bitops_as=None, without_fixed=without_fixed)
    return search_policies(replace(config, budget=budget), indicators, table).policy


def _full_bitops(table: LayerTable) -> int:
    return sum(layer_bitops(layer, _FULL_BITS, _FULL_BITS) for layer in table.layers)
