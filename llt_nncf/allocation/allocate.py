"""From indicators and a budget to a proven policy."""

import math
import time
from collections.abc import Sequence

from llt_nncf.allocation.allocation import Allocation
from llt_nncf.allocation.allocation import LimitUse
from llt_nncf.allocation.allocation import relative_gap
from llt_nncf.allocation.balance import balanced_alpha
from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import build_problem
from llt_nncf.allocation.cp_sat_core import CoreResult
from llt_nncf.allocation.cp_sat_core import solve_core
from llt_nncf.allocation.infeasible import explain_infeasible
from llt_nncf.allocation.infeasible import unreachable_limits
from llt_nncf.allocation.presolve import Presolved
from llt_nncf.allocation.presolve import presolve
from llt_nncf.artifacts.bit_policy import BitPolicy
from llt_nncf.artifacts.indicator_table import IndicatorTable
from llt_nncf.artifacts.pair_score_table import PairScoreTable
from llt_nncf.cost.budget import Budget
from llt_nncf.cost.limit import Limit
from llt_nncf.cost.policy_cost import PolicyCost
from llt_nncf.errors import BudgetError
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.errors import SearchNotProvenError


def allocate_bits(
    indicators: IndicatorTable | PairScoreTable,
    budget: Budget,
    *,
    alpha: float | str = 1.0,
    time_limit_s: float = 60.0,
) -> Allocation:
    """
    Chooses the bits of every layer: the smallest sum of indicators within the budget, proven.

    Minimises ``sum_g s_a(g, a_g) + alpha * sum_l s_w(l, w_l)`` over activation groups ``g`` and layers ``l`` (LIMPQ,
    arXiv:2203.08368, Eq. 4). An activation quantizer that feeds several layers is one decision, and its indicator
    counts once. What is fixed costs as it is and has no indicator. Of scores of whole pairs, it minimises the sum.

    A budget on the size of the weights alone leaves the activations free: they take the bits with the smallest
    indicator, normally the most. The solver counts in integer units, 2**-44 of the sum of all indicators; policies
    closer than a unit per layer are equal to it. The same input gives the same policy.

    :param indicators: Layers with their indicators, or with scores of whole pairs.
    :param budget: The limits.
    :param alpha: Factor on the weights' indicators, finite and not negative; ``auto`` is ``balanced_alpha``'s. It has
        no effect on pair scores.
    :param time_limit_s: Longest wall time of the solver, positive.
    :raises InvalidIndicatorError: If ``alpha`` is out of range.
    :raises BudgetError: If ``time_limit_s`` is out of range.
    :raises InfeasibleBudgetError: If no policy meets the budget.
    :raises SearchNotProvenError: If the solver stopped before it had a proof.
    """
    begin = time.perf_counter()
    factor = _factor(indicators, alpha)
    if not time_limit_s > 0:
        msg = f"time_limit_s={time_limit_s} must be positive; a search normally takes less than a second."
        raise BudgetError(msg)
    limits = budget.limits(indicators.table)
    problem = build_problem(indicators, limits, factor)
    if unreachable_limits(problem):
        raise InfeasibleBudgetError(explain_infeasible(problem, limits))
    presolved = presolve(problem)
    core = solve_core(problem, presolved, time_limit_s=time_limit_s)
    choice = _proven_choice(problem, limits, presolved, core)
    objective = problem.objective(choice)
    best_bound = min(max(core.bound, presolved.bound), objective)
    bits = problem.bits(choice)
    cost = PolicyCost.from_policy(BitPolicy(bits), indicators.table)
    totals = {name: getattr(cost, name) for name in ("gbitops", "weight_mib", "compression_ratio")}
    provenance = {
        "budget": budget.to_dict(),
        **({"alpha": factor} if isinstance(indicators, IndicatorTable) else {}),
        "objective": objective,
        "best_bound": best_bound,
        "status": "optimal",
        "totals": totals,
    }
    return Allocation(
        policy=BitPolicy({layer.name: bits[layer.name] for layer in indicators.table.layers}, provenance),
        objective=objective,
        best_bound=best_bound,
        status="optimal",
        search_ms=1e3 * (time.perf_counter() - begin),
        cost=cost,
        limits=_limit_uses(problem, limits, presolved, choice),
    )


def _factor(indicators: IndicatorTable | PairScoreTable, alpha: float | str) -> float:
    """Returns alpha as a number; pair scores have nothing to balance."""
    if alpha == "auto":
        return balanced_alpha(indicators) if isinstance(indicators, IndicatorTable) else 1.0
    if isinstance(alpha, str) or not (math.isfinite(alpha) and alpha >= 0):
        msg = f"alpha={alpha!r} must be 'auto', or finite and not negative; 1.0 adds the indicators as they are."
        raise InvalidIndicatorError(msg)
    return alpha


def _proven_choice(problem: ChoiceProblem, limits: Sequence[Limit], presolved: Presolved, core: CoreResult) -> Choice:
    """
    Returns the solver's policy if it is proven.

    :raises InfeasibleBudgetError: If it is proven that there is none.
    :raises SearchNotProvenError: If nothing is proven.
    """
    if core.status == "OPTIMAL" and core.choice is not None:
        return core.choice
    if core.status == "INFEASIBLE" and presolved.start is None:
        raise InfeasibleBudgetError(explain_infeasible(problem, limits))
    found = [problem.objective(choice) for choice in (core.choice, presolved.start) if choice is not None]
    bound = max(core.bound, presolved.bound)
    gap = f"{relative_gap(min(found), bound):.3g}" if found else "unknown, for no policy was found"
    msg = (
        f"The solver stopped with status {core.status} before it had a proof: the relative gap is {gap}. "
        "Raise time_limit_s, or loosen the budget."
    )
    raise SearchNotProvenError(msg)


def _limit_uses(
    problem: ChoiceProblem, limits: Sequence[Limit], presolved: Presolved, choice: Choice
) -> tuple[LimitUse, ...]:
    bits = problem.bits(choice)
    result = []
    for limit, step, multiplier in zip(limits, problem.steps, presolved.multipliers, strict=True):
        total = sum(limit.cost(layer, *bits[layer.name]) for layer in problem.layers)
        used, most = limit.in_unit(total), limit.in_unit(limit.limit)
        result.append(
            LimitUse(
                name=limit.name,
                unit=limit.unit,
                used=used,
                limit=most,
                slack=abs(most - used),
                binds=bool(limit.limit - total < step or multiplier > 0),
                multiplier=float(multiplier / step),
            )
        )
    return tuple(result)
