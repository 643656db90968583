"""From indicators and a budget to a proven policy."""

import math
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from llt_nncf.allocation.allocation import Allocation
from llt_nncf.allocation.allocation import LimitUse
from llt_nncf.allocation.allocation import RankedPolicy
from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.allocation.infeasible import explain_infeasible
from llt_nncf.allocation.infeasible import unreachable_limits
from llt_nncf.allocation.next_bits import next_bits
from llt_nncf.allocation.prepared_search import prepare_search
from llt_nncf.allocation.restrictions import Restrictions
from llt_nncf.allocation.solve import solve
from llt_nncf.artifacts.bit_policy import BitPolicy
from llt_nncf.artifacts.indicator_table import IndicatorTable
from llt_nncf.artifacts.layer_table import LayerTable
from llt_nncf.artifacts.pair_score_table import PairScoreTable
from llt_nncf.cost.budget import Budget
from llt_nncf.cost.limit import Limit
from llt_nncf.cost.policy_cost import PolicyCost
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import SearchOptionError


def allocate_bits(
    indicators: IndicatorTable | PairScoreTable,
    budget: Budget,
    *,
    alpha: float | str = 1.0,
    power: float = 1.0,
    restrictions: Restrictions | None = None,
    outliers: str = "repair",
    k_best: int = 1,
    tolerance: float = 0.0,
    time_limit_s: float = 60.0,
    explain: bool = False,
) -> Allocation:
    """
    Chooses the bits of every layer: the smallest sum of indicators within the budget, proven.

    Minimises ``sum_g s_a(g, a_g) + alpha * sum_l s_w(l, w_l)`` over activation groups ``g`` and layers ``l`` (LIMPQ,
    arXiv:2203.08368, Eq. 4), with every ``s`` raised to ``power``. An activation quantizer that feeds several layers is
    one decision, and its indicator counts once. What is fixed costs as it is and has no indicator. Of scores of whole
    pairs, it minimises the sum.

    A budget on the size of the weights alone leaves the activations free: they take the bits with the smallest
    indicator, normally the most. The solver counts in integer units, 2**-44 of the sum of all indicators; policies
    closer than a unit per layer are equal to it. The same input gives the same policy.

    :param indicators: Layers with their indicators, or with scores of whole pairs.
    :param budget: The limits.
    :param alpha: Factor on the weights' indicators, finite and not negative; ``auto`` is ``balanced_alpha``'s. It has
        no effect on pair scores.
    :param power: Exponent of the indicators, positive; 1 in the paper. Step sizes say how far rounding moves values;
        their squares go with the power of that noise, and make few bits dearer. It has no effect on pair scores.
    :param restrictions: What may be chosen beyond the candidates.
    :param outliers: ``repair``, ``keep`` or ``error``: what happens to indicators that fall as the bits do
        (``mend_outliers``). Pair scores may be in any order.
    :param k_best: So many of the best policies, at least 1.
    :param tolerance: Relative gap at which the search may stop, not negative; 0 proves the optimum. Without effect on
        several policies, which are proven.
    :param time_limit_s: Longest wall time of the solver, positive.
    :param explain: Works out what the next bit up or down would cost, layer by layer.
    :raises InvalidIndicatorError: If ``alpha`` is out of range, or outliers are refused.
    :raises SearchOptionError: If another option is out of range, or the restrictions leave a layer with nothing.
    :raises InfeasibleBudgetError: If no policy meets the budget.
    :raises SearchNotProvenError: If the solver stopped before it had a proof.
    """
    begin = time.perf_counter()
    _check_options(k_best, tolerance, time_limit_s)
    search = prepare_search(indicators, alpha=alpha, power=power, outliers=outliers, restrictions=restrictions)
    limits = budget.limits(indicators.table)
    problem = search.problem(limits)
    if unreachable_limits(problem):
        raise InfeasibleBudgetError(explain_infeasible(problem, limits))
    solved = solve(problem, count=k_best, tolerance=tolerance, time_limit_s=time_limit_s)
    if not solved.choices:
        raise InfeasibleBudgetError(explain_infeasible(problem, limits))
    best, best_bound = solved.choices[0], min(solved.bound, problem.objective(solved.choices[0]))
    # What is lost in the solver's integers, up to a unit per layer, is no gap.
    rounding = len(problem.layers) * 2.0**-44 * problem.magnitude
    is_proven = problem.objective(best) - best_bound <= rounding
    provenance: dict[str, Any] = {
        "budget": budget.to_dict(),
        **({"alpha": search.alpha, "power": power} if isinstance(indicators, IndicatorTable) else {}),
        "best_bound": best_bound,
        "status": "optimal" if is_proven else "within tolerance",
    }
    return Allocation(
        ranking=tuple(_ranked(problem, choice, indicators.table, provenance) for choice in solved.choices),
        best_bound=best_bound,
        status=provenance["status"],
        search_ms=1e3 * (time.perf_counter() - begin),
        limits=_limit_uses(problem, limits, solved.multipliers, best),
        outliers=search.outliers,
        next_bits=next_bits(problem, limits, solved.multipliers, best) if explain else (),
    )


def _ranked(problem: ChoiceProblem, choice: Choice, table: LayerTable, provenance: Mapping[str, Any]) -> RankedPolicy:
    objective, bits = problem.objective(choice), problem.bits(choice)
    cost = PolicyCost.from_policy(BitPolicy(bits), table)
    own = {**provenance, "objective": objective, "totals": cost.totals()}
    # The problem has the layers by group; a policy has them as the model does.
    policy = BitPolicy({layer.name: bits[layer.name] for layer in table.layers}, own)
    return RankedPolicy(policy, objective, cost)


def _check_options(k_best: int, tolerance: float, time_limit_s: float) -> None:
    faults = []
    if isinstance(k_best, bool) or not isinstance(k_best, int) or k_best < 1:
        faults.append(f"k_best={k_best!r} must be an integer from 1")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        faults.append(f"tolerance={tolerance} must be finite and not negative; 0 proves the optimum")
    if not time_limit_s > 0:
        faults.append(f"time_limit_s={time_limit_s} must be positive; a search normally takes less than a second")
    if faults:
        msg = f"Search options: {'; '.join(faults)}."
        raise SearchOptionError(msg)


def _limit_uses(
    problem: ChoiceProblem, limits: Sequence[Limit], multipliers: Floats, choice: Choice
) -> tuple[LimitUse, ...]:
    result = []
    for limit, total, step, multiplier in zip(limits, problem.totals(choice), problem.steps, multipliers, strict=True):
        used, most = limit.in_unit(total), limit.in_unit(limit.limit)
        result.append(
            LimitUse(
                name=limit.name,
                unit=limit.unit,
                used=used,
                limit=most,
                slack=abs(most - used),
                binds=bool(limit.limit - total < step or multiplier > 0),
                multiplier=float(multiplier / step * limit.price_size),
                multiplier_unit=limit.price_unit,
            )
        )
    return tuple(result)
