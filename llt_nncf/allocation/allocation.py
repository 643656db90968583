"""The outcome of a search."""

import math
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

from llt_nncf.allocation.next_bits import NextBits
from llt_nncf.allocation.outliers import Outlier
from llt_nncf.artifacts.bit_policy import BitPolicy
from llt_nncf.cost.policy_cost import PolicyCost


@dataclass(frozen=True)
class LimitUse:
    """
    How far the policy uses one limit of the budget.

    :param name: The budget's field, or the name of its cost table.
    :param unit: Unit of ``used``, ``limit`` and ``slack``.
    :param used: What the policy reaches.
    :param limit: What the budget asks for, rounded to whole BitOPs, bits or units of the table.
    :param slack: The room left, not negative.
    :param binds: Whether less than one smallest step of the cost is left, or the multiplier is positive.
    :param multiplier: By how much one more ``multiplier_unit`` would lower the objective in the relaxed problem.
    :param multiplier_unit: For example ``GBitOP`` or ``MiB``; that of a compression ratio is ``MiB`` too.
    """

    name: str
    unit: str
    used: float
    limit: float
    slack: float
    binds: bool
    multiplier: float
    multiplier_unit: str


@dataclass(frozen=True)
class RankedPolicy:
    """
    One of the best policies.

    :param policy: Bits of every layer.
    :param objective: Sum of the activations' indicators and alpha times the weights', or of the pairs' scores.
    :param cost: What the policy costs in total.
    """

    policy: BitPolicy
    objective: float
    cost: PolicyCost


@dataclass(frozen=True)
class Allocation:
    """
    A policy with the proof that none within the budget has a smaller objective.

    :param ranking: The best policies, the best first; one unless more were asked for, fewer if there are no more.
    :param best_bound: No policy has a smaller objective.
    :param status: ``optimal``, or ``within tolerance``.
    :param search_ms: Wall time of the search.
    :param limits: One entry per limit of the budget, for the best policy.
    :param outliers: Indicators that fall where the bits do, as they were and as they were searched with.
    :param next_bits: What one more or one less bit would cost, if that was asked for.
    """

    ranking: tuple[RankedPolicy, ...]
    best_bound: float
    status: str
    search_ms: float
    limits: tuple[LimitUse, ...]
    outliers: tuple[Outlier, ...]
    next_bits: tuple[NextBits, ...] = ()

    @property
    def policy(self) -> BitPolicy:
        """The best policy."""
        return self.ranking[0].policy

    @property
    def objective(self) -> float:
        """That of the best policy."""
        return self.ranking[0].objective

    @property
    def cost(self) -> PolicyCost:
        """That of the best policy."""
        return self.ranking[0].cost

    @property
    def gap(self) -> float:
        """Relative distance of the bound; not exactly 0 where rounding to the solver's integers leaves some 1e-13."""
        return relative_gap(self.objective, self.best_bound)

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-able values."""
        return {
            "status": self.status,
            "objective": self.objective,
            "best_bound": self.best_bound,
            "gap": self.gap,
            "search_ms": self.search_ms,
            "totals": self.cost.totals(),
            "limits": [asdict(use) for use in self.limits],
            "outliers": [asdict(outlier) for outlier in self.outliers],
            "next_bits": [asdict(row) for row in self.next_bits],
            "policies": [
                {"objective": ranked.objective, "totals": ranked.cost.totals(), **ranked.policy.to_dict()}
                for ranked in self.ranking
            ],
        }


def relative_gap(objective: float, bound: float) -> float:
    """Returns ``(objective - bound) / abs(objective)``, and 0 if the bound is reached."""
    if objective <= bound:
        return 0.0
    return (objective - bound) / abs(objective) if objective else math.inf
