"""The outcome of a search."""

import math
from dataclasses import dataclass

from llt_nncf.artifacts.bit_policy import BitPolicy
from llt_nncf.cost.policy_cost import PolicyCost


@dataclass(frozen=True)
class LimitUse:
    """
    How far the policy uses one limit of the budget.

    :param name: The budget's field.
    :param unit: Unit of ``used``, ``limit`` and ``slack``.
    :param used: What the policy reaches.
    :param limit: What the budget asks for, rounded to whole BitOPs or bits.
    :param slack: The room left, not negative.
    :param binds: Whether less than one smallest step of the cost is left, or the multiplier is positive.
    :param multiplier: What one more BitOP or weight bit would lower the objective by in the relaxed problem.
    """

    name: str
    unit: str
    used: float
    limit: float
    slack: float
    binds: bool
    multiplier: float


@dataclass(frozen=True)
class Allocation:
    """
    A policy with the proof that none within the budget has a smaller objective.

    :param policy: Bits of every layer.
    :param objective: Sum of the activations' indicators and alpha times the weights' at the policy's bits.
    :param best_bound: No policy has a smaller objective.
    :param status: ``optimal``.
    :param search_ms: Wall time of the search.
    :param cost: What the policy costs in total.
    :param limits: One entry per limit of the budget.
    """

    policy: BitPolicy
    objective: float
    best_bound: float
    status: str
    search_ms: float
    cost: PolicyCost
    limits: tuple[LimitUse, ...]

    @property
    def gap(self) -> float:
        """Relative distance of the bound; not exactly 0 where rounding to the solver's integers leaves some 1e-13."""
        return relative_gap(self.objective, self.best_bound)


def relative_gap(objective: float, bound: float) -> float:
    """Returns ``(objective - bound) / abs(objective)``, and 0 if the bound is reached."""
    if objective <= bound:
        return 0.0
    return (objective - bound) / abs(objective) if objective else math.inf
