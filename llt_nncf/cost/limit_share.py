"""How much of each limit of a budget a policy uses."""

from dataclasses import dataclass

from llt_nncf.artifacts.bit_policy import BitPolicy
from llt_nncf.artifacts.layer_table import LayerTable
from llt_nncf.cost.budget import Budget


@dataclass(frozen=True)
class LimitShare:
    """
    One limit.

    :param name: The budget's field, or the name of its cost table.
    :param given: What the user wrote there, for example ``12.2``.
    :param unit: Unit of ``used`` and ``allowed``.
    :param used: What the policy reaches.
    :param allowed: What the budget asks for, rounded to whole BitOPs, bits or units of the table.
    :param share: The policy's cost over the largest that is allowed: at most 1 within the limit, also for a compression
        ratio, which falls as the cost rises.
    """

    name: str
    given: str
    unit: str
    used: float
    allowed: float
    share: float


def limit_shares(budget: Budget, policy: BitPolicy, table: LayerTable) -> tuple[LimitShare, ...]:
    """
    Works out every limit of the budget.

    :param budget: The limits.
    :param policy: A policy that fits ``table``; within the budget or not.
    :param table: The layers.
    :raises BudgetError: If a cost table lacks one of the layers or pairs.
    """
    result = []
    for limit in budget.limits(table):
        total = int(sum(limit.cost(layer, *policy.bits[layer.name]) for layer in table.layers))
        used, allowed = limit.in_unit(total), limit.in_unit(limit.limit)
        result.append(LimitShare(limit.name, limit.given, limit.unit, used, allowed, total / max(limit.limit, 1)))
    return tuple(result)
