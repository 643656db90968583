"""The objective against the budget: many proven policies from one set of indicators."""

import itertools
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.allocation.infeasible import unreachable_limits
from llt_nncf.allocation.lagrangian import cheapest_choice
from llt_nncf.allocation.lagrangian import relax
from llt_nncf.allocation.lattice_table import MAX_CELLS
from llt_nncf.allocation.lattice_table import LatticeTable
from llt_nncf.allocation.lattice_table import lattice_cells
from llt_nncf.allocation.prepared_search import prepare_search
from llt_nncf.allocation.restrictions import Restrictions
from llt_nncf.allocation.solve import Solved
from llt_nncf.allocation.solve import solve
from llt_nncf.artifacts.bit_policy import BitPolicy
from llt_nncf.artifacts.indicator_table import IndicatorTable
from llt_nncf.artifacts.pair_score_table import PairScoreTable
from llt_nncf.cost.budget import AXES
from llt_nncf.cost.budget import Budget
from llt_nncf.cost.limit import Limit
from llt_nncf.cost.policy_cost import PolicyCost
from llt_nncf.errors import SearchOptionError


@dataclass(frozen=True)
class FrontierPoint:
    """
    The best policy at one budget.

    :param at: Axis to what the budget asks for there.
    :param policy: The policy, or ``None`` if none meets the budget; then the rest is empty too.
    :param objective: Its objective.
    :param best_bound: No policy within the budget has a smaller objective.
    :param used: Axis to what the policy reaches.
    :param totals: What the policy costs, by the names of ``PolicyCost.totals``.
    """

    at: Mapping[str, float]
    policy: BitPolicy | None = None
    objective: float | None = None
    best_bound: float | None = None
    used: Mapping[str, float] | None = None
    totals: Mapping[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-able values."""
        return {
            "at": dict(self.at),
            "objective": self.objective,
            "best_bound": self.best_bound,
            "used": self.used and dict(self.used),
            "totals": self.totals and dict(self.totals),
            "bits": self.policy and self.policy.to_dict()["bits"],
        }


def check_axes(axes: Sequence[str]) -> None:
    """
    Checks what a frontier goes over.

    :raises SearchOptionError: If an axis is none, or there are not one or two.
    """
    if not 1 <= len(axes) <= 2 or len(set(axes)) != len(axes) or not set(axes) <= set(AXES):
        msg = f"A frontier goes over one or two different axes of {', '.join(AXES)}, and not over {list(axes)}."
        raise SearchOptionError(msg)


class Frontier:
    """
    Proven policies over one axis of the budget, or a grid of two.

    :param indicators: Layers with their indicators, or with scores of whole pairs.
    :param axes: One or two of ``AXES``.
    :param budget: Further limits that all points keep, on other fields; of its axes' fields any value will do.
    :param alpha: As in ``allocate_bits``; so are the rest.
    :param power: Of the indicators.
    :param restrictions: What may be chosen beyond the candidates.
    :param outliers: ``repair``, ``keep`` or ``error``.
    :raises SearchOptionError: If an axis is none, or there are not one or two.
    """

    def __init__(
        self,
        indicators: IndicatorTable | PairScoreTable,
        axes: Sequence[str],
        budget: Budget | None = None,
        *,
        alpha: float | str = 1.0,
        power: float = 1.0,
        restrictions: Restrictions | None = None,
        outliers: str = "repair",
    ):
        check_axes(axes)
        self.axes = tuple(axes)
        ones: dict[str, Any] = dict.fromkeys(axes, 1.0)
        self._budget = Budget(**ones) if budget is None else replace(budget, **ones)
        self._search = prepare_search(
            indicators, alpha=alpha, power=power, outliers=outliers, restrictions=restrictions
        )
        self._limits = self._budget.limits(indicators.table)
        self._problem = self._search.problem(self._limits)
        self._names = [limit.name for limit in self._limits]

    def reach(self, axis: str) -> tuple[float, float]:
        """
        Returns the tightest value of ``axis`` that some policy meets, and the one beyond which nothing is gained.

        Other limits are not looked at.
        """
        k = self._names.index(axis)
        # Of the policies with the smallest objective the cheapest, by a price that no objective shows.
        price = np.zeros(len(self._limits))
        price[k] = 1e-13 * self._problem.magnitude / max(1.0, self._problem.costs[k].max(axis=(1, 2)).sum())
        free = relax(self._problem, price).choice
        return self._in_unit(k, cheapest_choice(self._problem, k)), self._in_unit(k, free)

    def evenly(self, axis: str, count: int) -> list[float]:
        """Returns ``count`` values of ``axis`` from one end of its reach to the other."""
        return np.linspace(*self.reach(axis), count).tolist()

    def trace(
        self, values: Mapping[str, Sequence[float]], *, tolerance: float = 0.0, time_limit_s: float = 60.0
    ) -> list[FrontierPoint]:
        """
        Solves every point; of two axes, every combination.

        One axis without further limits is read off the lattice table, where that is not too large. Of other problems,
        each is begun at the multipliers of the one before it, back and forth over the grid, so that these are near.

        :param values: Axis to the values of the budget.
        :param tolerance: Relative gap at which a point is good enough; 0 proves all.
        :param time_limit_s: Longest wall time of the solver at one point.
        :return: The points, in the order of the values, the last axis running fastest.
        :raises BudgetError: If a value is not positive and finite.
        :raises SearchNotProvenError: If the time was too short for a point.
        """
        grid = list(itertools.product(*(values[axis] for axis in self.axes)))
        points = [dict(zip(self.axes, row, strict=True)) for row in grid]
        problems = [self._problem.with_limits(self._limits_at(point)) for point in points]
        open_ones = [index for index, problem in enumerate(problems) if not unreachable_limits(problem)]
        result = [FrontierPoint(point) for point in points]
        if len(self._limits) == 1 and open_ones:
            widest = max((problems[index] for index in open_ones), key=lambda problem: problem.limits[0])
            if lattice_cells(self._to_the_last_gain(widest)) <= MAX_CELLS:
                table = LatticeTable(self._to_the_last_gain(widest))
                last = len(table.objectives) - 1
                wanted = np.array([min(int(problems[index].limits[0]), last) for index in open_ones])
                for index, choice in zip(open_ones, table.choices(wanted), strict=True):
                    result[index] = self._point(points[index], choice)
                return result
        near: Floats | None = None
        for index in _back_and_forth(open_ones, len(values[self.axes[-1]])):
            solved = solve(problems[index], tolerance=tolerance, time_limit_s=time_limit_s, near=near)
            near = solved.multipliers
            if solved.choices:
                result[index] = self._point(points[index], solved.choices[0], solved)
        return result

    def corners(self) -> list[FrontierPoint]:
        """
        Returns all Pareto points of one axis without further limits, from the tightest budget on.

        :raises SearchOptionError: If there are more limits, or the lattice of the cost is too fine.
        """
        if len(self._limits) > 1:
            msg = f"All points can be listed for one budget alone, and not for {', '.join(self._names)} together."
            raise SearchOptionError(msg)
        everything = self._problem.costs.max(axis=(2, 3)).sum(axis=1)
        problem = self._to_the_last_gain(replace(self._problem, limits=everything))
        if lattice_cells(problem) > MAX_CELLS:
            msg = f"The costs of {self.axes[0]} have too fine a common divisor to list all points: ask for some."
            raise SearchOptionError(msg)
        table = LatticeTable(problem)
        choices = table.choices(table.corners())
        return [self._point({self.axes[0]: self._in_unit(0, choice)}, choice) for choice in choices]

    def locate(self, policy: BitPolicy) -> tuple[dict[str, float], float]:
        """
        Returns where a given policy lies: axis to what it reaches, and its objective.

        It need not be one that the restrictions allow.

        :raises ArtifactError: If it does not fit the layers.
        """
        policy.check(self._search.indicators.table)
        choice = self._unrestricted.choice(policy.bits)
        return self._used(choice), self._unrestricted.objective(choice)

    @cached_property
    def _unrestricted(self) -> ChoiceProblem:
        return replace(self._search, restrictions=Restrictions()).problem(self._limits)

    def _limits_at(self, point: Mapping[str, Any]) -> list[Limit]:
        return replace(self._budget, **point).limits(self._search.indicators.table)

    def _to_the_last_gain(self, problem: ChoiceProblem) -> ChoiceProblem:
        """Lowers the one limit to what the best of all policies uses; more buys nothing."""
        free = relax(problem, np.zeros(1)).choice
        return replace(problem, limits=np.minimum(problem.limits, problem.used(free)))

    def _in_unit(self, k: int, choice: Choice) -> float:
        return self._limits[k].in_unit(self._problem.totals(choice)[k])

    def _used(self, choice: Choice) -> dict[str, float]:
        return {axis: self._in_unit(self._names.index(axis), choice) for axis in self.axes}

    def _point(self, at: Mapping[str, float], choice: Choice, solved: Solved | None = None) -> FrontierPoint:
        table = self._search.indicators.table
        bits = self._problem.bits(choice)
        objective = self._problem.objective(choice)
        bound = objective if solved is None else min(solved.bound, objective)
        policy = BitPolicy({layer.name: bits[layer.name] for layer in table.layers})
        totals = PolicyCost.from_policy(policy, table).totals()
        return FrontierPoint(at, policy, objective, bound, self._used(choice), totals)


def _back_and_forth(indices: Sequence[int], row_length: int) -> list[int]:
    """Orders positions of a grid so that each is beside the one before it: every second row runs backwards."""

    def key(index: int) -> tuple[int, int]:
        row, column = divmod(index, row_length)
        return row, column if row % 2 == 0 else -column

    return sorted(indices, key=key)
