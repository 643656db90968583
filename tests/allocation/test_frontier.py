"""The frontier against brute force, and its points against single searches."""

import numpy as np
import pytest

from llt_nncf.allocation import Frontier
from llt_nncf.allocation import Restrictions
from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.errors import SearchOptionError

COSTS = (lambda layer, w, a: layer.macs * w * a, lambda layer, w, a: layer.weight_count * w)
INSTANCES = {
    "own quantizers": {"groups": (1, 1, 1, 1)},
    "shared quantizers": {"groups": (2, 1, 2), "candidates": (6, 4, 2)},
    "fixed ends": {"groups": (1, 1, 2, 1), "fixed_weights": (0, 4), "fixed_activations": (0, 3)},
}


def pareto(objectives, used):
    """Points that nothing with the same or a smaller cost beats: one by one."""
    points = []
    for cost in np.unique(used):
        least = objectives[used <= cost].min()
        if not points or least < points[-1][1] - 1e-12:
            points.append((cost, least))
    return points


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("instance", INSTANCES.values(), ids=INSTANCES.keys())
def test_all_points_over_one_budget_are_the_pareto_points_of_brute_force(
    instance, seed, make_scores, enumerate_policies
):
    scores = make_scores(seed, **instance)
    objectives, (bitops, size) = enumerate_policies(scores, 1.0, COSTS)
    for axis, used, unit in (("gbitops", bitops, 1e9), ("weight_mib", size, 2**23)):
        points = Frontier(scores, [axis]).corners()
        expected = pareto(objectives, used)
        assert [point.at[axis] * unit for point in points] == pytest.approx([cost for cost, _ in expected], rel=1e-12)
        assert [point.objective for point in points] == pytest.approx([least for _, least in expected], rel=1e-12)
        for point in points:
            point.policy.check(scores.table)
            assert point.used[axis] == point.at[axis]
            assert point.totals[axis] == pytest.approx(point.used[axis])


@pytest.mark.parametrize("instance", INSTANCES.values(), ids=INSTANCES.keys())
def test_a_grid_over_two_budgets_matches_brute_force_and_says_where_nothing_fits(
    instance, make_indicators, enumerate_policies
):
    indicators = make_indicators(3, **instance)
    objectives, (bitops, size) = enumerate_policies(indicators, 2.0, COSTS)
    frontier = Frontier(indicators, ["gbitops", "weight_mib"], alpha=2.0, outliers="keep")
    values = {
        "gbitops": [int(q) / 1e9 for q in np.quantile(bitops, (0, 0.1, 0.3, 0.7))],
        "weight_mib": [int(q) / 2**23 for q in (size.min() - 1, *np.quantile(size, (0, 0.2, 0.6)))],
    }
    points = frontier.trace(values)
    assert [tuple(point.at.values()) for point in points] == [
        (gbitops, mib) for gbitops in values["gbitops"] for mib in values["weight_mib"]
    ]
    for point in points:
        fits = (bitops <= point.at["gbitops"] * 1e9 + 0.5) & (size <= point.at["weight_mib"] * 2**23 + 0.5)
        if fits.any():
            assert point.objective == pytest.approx(objectives[fits].min(), rel=1e-12)
            assert point.objective - point.best_bound < 1e-10
        else:
            assert (point.policy, point.objective, point.to_dict()["bits"]) == (None, None, None)


def test_a_further_budget_and_restrictions_hold_at_every_point(make_indicators):
    indicators = make_indicators(4, (1, 2, 1))
    tied = Restrictions(tied=True)
    size = Budget(compression_ratio=8.0)
    frontier = Frontier(indicators, ["gbitops"], size, alpha=2.0, restrictions=tied)
    points = frontier.trace({"gbitops": frontier.evenly("gbitops", 7)})
    assert any(point.policy is not None for point in points)
    for point in points:
        if point.policy is None:
            continue
        both = Budget(gbitops=point.at["gbitops"], compression_ratio=8.0)
        found = allocate_bits(indicators, both, alpha=2.0, restrictions=tied)
        assert point.objective == pytest.approx(found.objective, rel=1e-12)
        assert point.totals["compression_ratio"] >= 8.0
        assert all(w == a for w, a in point.policy.bits.values())


def test_the_reach_of_an_axis_is_met_at_one_end_and_gains_nothing_beyond_the_other(make_indicators):
    indicators = make_indicators(5, (1, 2, 1))
    frontier = Frontier(indicators, ["weight_mib"])
    low, high = frontier.reach("weight_mib")
    tightest, loosest = frontier.trace({"weight_mib": [low, high]})
    assert frontier.trace({"weight_mib": [low * 0.999]})[0].policy is None
    assert all(w == 2 for w, _ in tightest.policy.bits.values())
    assert loosest.objective == allocate_bits(indicators, Budget(weight_mib=100.0)).objective
    assert loosest.used["weight_mib"] == high


def test_points_of_the_published_instance_are_those_of_single_searches(fixtures):
    indicators = IndicatorTable.load(fixtures / "limpq_resnet50.json")
    alone = Frontier(indicators, ["gbitops"], alpha=2.0)
    for point in alone.trace({"gbitops": [40.0, 60.0, 90.0]}):
        found = allocate_bits(indicators, Budget(gbitops=point.at["gbitops"]), alpha=2.0)
        assert point.objective == pytest.approx(found.objective, abs=1e-11)
    both = Frontier(indicators, ["gbitops", "compression_ratio"], alpha=2.0)
    gbitops = allocate_bits(indicators, Budget(bitops_as=(3, 4)), alpha=2.0).limits[0].limit
    (point,) = both.trace({"gbitops": [gbitops], "compression_ratio": [12.2]})
    published = BitPolicy.load(fixtures / "limpq_resnet50_policy.json")
    assert point.policy.bits == published.bits
    used, objective = both.locate(published)
    assert (used, objective) == (point.used, point.objective)


def test_costs_with_too_fine_a_lattice_for_a_table_are_searched_point_by_point(make_scores, enumerate_policies):
    scores = make_scores(6, (2, 1, 2), candidates=(6, 4, 2))
    rng = np.random.default_rng(6)
    pairs = [(w, a) for w in (6, 4, 2) for a in (6, 4, 2)]
    latency = CostTable(
        "latency", "ms", {x.name: {p: float(rng.uniform()) for p in pairs} for x in scores.table.layers}
    )
    objectives, (used,) = enumerate_policies(scores, 1.0, [lambda layer, w, a: latency.costs[layer.name][w, a]])
    frontier = Frontier(scores, ["latency_ms"], Budget(latency_ms=1.0, latency_table=latency))
    with pytest.raises(SearchOptionError, match="too fine a common divisor"):
        frontier.corners()
    points = frontier.trace({"latency_ms": frontier.evenly("latency_ms", 6)})
    for point in points:
        fits = used <= point.at["latency_ms"] + 1e-9
        assert point.objective == pytest.approx(objectives[fits].min(), rel=1e-12)


@pytest.mark.parametrize("axes", [[], ["bitops_as"], ["gbitops", "gbitops"], ["gbitops", "weight_mib", "latency_ms"]])
def test_axes_that_are_none_are_refused(axes, make_indicators):
    with pytest.raises(SearchOptionError, match="one or two different axes of gbitops"):
        Frontier(make_indicators(0, (1,)), axes)


def test_all_points_of_two_limits_are_refused(make_indicators):
    with pytest.raises(SearchOptionError, match="gbitops, weight_mib together"):
        Frontier(make_indicators(0, (1,)), ["gbitops"], Budget(weight_mib=1.0)).corners()


def test_a_range_ends_where_more_buys_nothing_though_more_bits_are_as_good():
    table = LayerTable((Layer("a", 100, 10, "a", (8, 6, 4, 2), (8,)), Layer("b", 100, 10, "b", (8, 6, 4, 2), (8,))))
    values = {8: 0.05, 6: 0.05, 4: 0.06, 2: 0.3}
    indicators = IndicatorTable(table, {"a": values, "b": values}, {"a": {8: 0.1}, "b": {8: 0.1}}, "made up")
    assert Frontier(indicators, ["average_weight_bits"]).reach("average_weight_bits") == (2.0, 6.0)
