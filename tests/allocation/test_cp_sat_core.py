"""The solver by itself: small problems are otherwise proven before it is asked."""

import numpy as np
import pytest

from llt_nncf.allocation import Restrictions
from llt_nncf.allocation.choice_problem import build_problem
from llt_nncf.allocation.cp_sat_core import solve_core
from llt_nncf.allocation.presolve import Presolved
from llt_nncf.allocation.presolve import presolve
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.cost import Budget

COSTS = (lambda layer, w, a: layer.macs * w * a, lambda layer, w, a: layer.weight_count * w)


def everything_open(problem):
    return Presolved(-np.inf, np.zeros(len(problem.limits)), (), False, np.isfinite(problem.terms))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("groups", [(1, 1, 1, 1), (2, 1, 2), (4,)], ids=["own", "shared", "all share one"])
def test_the_five_best_of_all_columns_are_those_of_brute_force(groups, seed, make_scores, enumerate_policies):
    scores = make_scores(seed, groups, candidates=(6, 4, 2))
    objectives, (bitops, size) = enumerate_policies(scores, 1.0, COSTS)
    for share in (0.0, 0.01, 0.3, 1.0):
        most = [int(np.quantile(bitops, share)), int(np.quantile(size, min(1.0, share + 0.3)))]
        best = np.sort(objectives[(bitops <= most[0]) & (size <= most[1])])[:5]
        limits = Budget(gbitops=most[0] / 1e9, weight_mib=most[1] / 2**23).limits(scores.table)
        problem = build_problem(scores, limits, 1.0)
        result = solve_core(problem, everything_open(problem), time_limit_s=60, count=5)
        assert [problem.objective(choice) for choice in result.choices] == pytest.approx(best, abs=1e-10)
        assert result.status == ("OPTIMAL" if len(best) == 5 else "INFEASIBLE")
        assert len(best) == 0 or result.bound == pytest.approx(best[0], abs=1e-10)


def test_a_pair_that_one_layer_of_a_group_may_not_take_is_closed_to_the_group(make_scores, enumerate_policies):
    scores = make_scores(0, (3,), candidates=(6, 4, 2))
    # layer0 has 6 bits, and so has its input, because both are tied; then so have the inputs and weights of the others.
    allowed = Restrictions(weight_bits={"layer0": (6,)}, tied=True).allowed(scores.table)
    limits = Budget(gbitops=1.0).limits(scores.table)
    problem = build_problem(scores, limits, 1.0, allowed)
    (choice,) = solve_core(problem, everything_open(problem), time_limit_s=60).choices
    assert set(problem.bits(choice).values()) == {(6, 6)}


def test_the_start_and_closed_columns_do_not_change_the_answer_on_the_published_instance(fixtures):
    indicators = IndicatorTable.load(fixtures / "limpq_resnet50.json")
    limits = Budget(bitops_as=(3, 4), compression_ratio=12.2).limits(indicators.table)
    problem = build_problem(indicators, limits, 2.0)
    presolved = presolve(problem)
    # Its optimum is too close to others to be proven by the presolve alone.
    assert not presolved.is_complete
    found = [solve_core(problem, given, time_limit_s=60) for given in (presolved, everything_open(problem))]
    for result in found:
        assert problem.objective(result.choices[0]) == pytest.approx(4.617439227, abs=1e-9)
        assert result.bound == pytest.approx(4.617439227, abs=1e-9)
