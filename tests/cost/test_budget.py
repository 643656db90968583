"""A budget's limits in integers, and what it refuses."""

import math

import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import AXES
from llt_nncf.cost import Budget
from llt_nncf.cost import PolicyCost
from llt_nncf.errors import BudgetError

TABLE = LayerTable(
    (
        Layer("first", 1000, 100, "input", (8,), (8,)),
        Layer("middle", 300, 2000, "middle", (6, 4, 2), (6, 4, 2)),
        Layer("last", 50, 500, "last", (4, 2), (8,)),
    )
)

PAIRS = [(w, a) for w in (8, 6, 4, 2) for a in (8, 6, 4, 2)]


def test_each_limit_is_the_integer_worked_out_by_hand():
    budget = Budget(gbitops=7e-5, bitops_as=(3, 5), compression_ratio=10.0, weight_mib=2**-10)
    limits = {limit.name: limit.limit for limit in budget.limits(TABLE)}
    assert limits == {
        "gbitops": 70_000,
        "bitops_as": 1000 * 8 * 8 + 300 * 3 * 5 + 50 * 3 * 8,  # 8 bits where they are fixed
        "compression_ratio": 32 * 2600 // 10,
        "weight_mib": 2**20 // 2**10 * 8,
    }


def test_costs_are_per_layer_and_bits_and_units_are_the_budgets_own():
    bitops, size = Budget(gbitops=1.0, compression_ratio=8.0).limits(TABLE)
    assert bitops.cost(TABLE.layers[1], 4, 2) == 300 * 8
    assert size.cost(TABLE.layers[1], 4, 2) == 2000 * 4
    assert bitops.in_unit(2 * 10**9) == 2.0
    assert size.in_unit(2600 * 4) == 8.0


def test_averages_and_tables_are_the_integers_worked_out_by_hand():
    energy = CostTable("energy", "mJ", {name: dict.fromkeys(PAIRS, 1.25) for name in ("first", "middle", "last")})
    budget = Budget(average_weight_bits=4.5, average_activation_bits=5.0, tables=((energy, 3.3),))
    weights, activations, table = budget.limits(TABLE)
    assert weights.limit == 4.5 * (100 + 2000 + 500)
    assert (weights.cost(TABLE.layers[1], 4, 2), weights.in_unit(2600 * 4)) == (2000 * 4, 4.0)
    assert activations.limit == 5 * (1000 + 300 + 50)
    assert (activations.cost(TABLE.layers[1], 4, 2), activations.in_unit(1350 * 3)) == (300 * 2, 3.0)
    assert table.in_unit(table.limit) == 3.3
    first, middle, last = TABLE.layers
    assert table.in_unit(table.cost(first, 8, 8) + table.cost(middle, 4, 2) + table.cost(last, 2, 8)) == 3.75
    # In units of the budget: one more of them is so many of the integers.
    assert weights.price_size == 2600
    assert table.in_unit(round(table.price_size)) == 1.0


def test_limits_without_fixed_layers_count_the_others_alone():
    latency = CostTable("latency", "ms", {name: dict.fromkeys(PAIRS, 0.5) for name in ("middle", "last")})
    every = {"gbitops": 1.0, "bitops_as": (3, 5), "compression_ratio": 8.0, "weight_mib": 1.0}
    every |= {"average_weight_bits": 4.0, "average_activation_bits": 4.0, "latency_ms": 1.0}
    budget = Budget(**every, latency_table=latency, without_fixed=tuple(every))
    limits = {limit.name: limit for limit in budget.limits(TABLE)}
    assert list(limits) == list(every)
    first, middle, last = TABLE.layers
    for name, limit in limits.items():
        assert (limit.cost(first, 8, 8), limit.cost(middle, 4, 4) > 0) == (0, True), name
    assert limits["bitops_as"].limit == 300 * 3 * 5 + 50 * 3 * 8
    assert limits["compression_ratio"].limit == 32 * 2500 // 8
    assert limits["average_weight_bits"].in_unit(4 * 2500) == 4.0
    assert limits["average_activation_bits"].in_unit(4 * 350) == 4.0
    # "last" is fixed in its input alone, so it counts.
    assert limits["gbitops"].cost(last, 4, 8) == 50 * 4 * 8


def test_a_table_that_lacks_a_pair_is_refused_with_the_place():
    energy = CostTable("energy", "mJ", {name: {(8, 8): 1.0, (4, 8): 1.0} for name in ("first", "last")})
    with pytest.raises(BudgetError, match=r"'energy' has no cost for 'middle' w6a6, .*'last' w2a8"):
        Budget(tables=((energy, 1.0),)).limits(TABLE)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"latency_ms": 1.0}, "latency_ms and latency_table must be given together"),
        ({"gbitops": 1.0, "latency_table": CostTable("latency", "ms", {})}, "must be given together"),
        ({"latency_ms": 1.0, "latency_table": CostTable("latency", "us", {})}, "is in 'us', and must be in 'ms'"),
        ({"gbitops": 1.0, "without_fixed": ("size",)}, "without_fixed names 'size', and the limits given are gbitops"),
        ({"tables": ((CostTable("energy", "mJ", {}), 0.0),)}, "energy=0.0 must be a positive"),
        ({"gbitops": 1.0, "tables": ((CostTable("gbitops", "", {}), 1.0),)}, "'gbitops' is given twice"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(fields, words):
    with pytest.raises(BudgetError, match=words):
        Budget(**fields)


@pytest.mark.parametrize("weight_bits", [6, 4, 2])
@pytest.mark.parametrize("activation_bits", [6, 4, 2])
def test_a_reported_total_given_back_as_a_limit_is_just_met(weight_bits, activation_bits):
    last = (min(weight_bits, 4), 8)
    policy = BitPolicy({"first": (8, 8), "middle": (weight_bits, activation_bits), "last": last})
    cost = PolicyCost.from_policy(policy, TABLE)
    budget = Budget(gbitops=cost.gbitops, compression_ratio=cost.compression_ratio, weight_mib=cost.weight_mib)
    assert [limit.limit for limit in budget.limits(TABLE)] == [cost.bitops, cost.weight_bits, cost.weight_bits]


def test_bitops_as_gives_the_same_inequality_as_leaving_the_fixed_layers_out_on_both_sides(fixtures):
    table = IndicatorTable.load(fixtures / "limpq_resnet50.json").table
    (limit,) = Budget(bitops_as=(3, 4)).limits(table)
    fixed = sum(layer.macs * 64 for layer in table.layers if layer.is_fixed)
    assert limit.limit - fixed == 12 * sum(layer.macs for layer in table.layers if not layer.is_fixed)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "4", True], ids=str)
@pytest.mark.parametrize("name", [axis for axis in AXES if axis != "latency_ms"])
def test_a_limit_that_is_not_positive_and_finite_is_refused_by_name(name, value):
    with pytest.raises(BudgetError, match=f"{name}={value!r} must be a positive, finite number"):
        Budget(**{name: value})


@pytest.mark.parametrize("value", [(3,), (3, 0), (3, 4.5), (3, 4, 5), 3, (3, True)], ids=str)
def test_a_pair_of_bits_that_is_none_is_refused(value):
    with pytest.raises(BudgetError, match="bitops_as=.* must be a pair of integers from 1 to 64"):
        Budget(bitops_as=value)


def test_a_budget_without_a_limit_is_refused_and_told_what_there_is():
    with pytest.raises(BudgetError, match="give one or more of gbitops, bitops_as, compression_ratio, weight_mib"):
        Budget()


def test_all_faults_are_reported_at_once():
    with pytest.raises(BudgetError, match=r"gbitops=-1.*weight_mib=0"):
        Budget(gbitops=-1, weight_mib=0)


@pytest.mark.parametrize("name", ["gbitops", "bitops_as", "latency_ms", "tables"])
def test_a_cost_table_named_as_a_field_of_the_budget_is_refused(name):
    table = CostTable(name, "mJ", {layer.name: dict.fromkeys(PAIRS, 1.0) for layer in TABLE.layers})
    with pytest.raises(BudgetError, match=f"a cost table is named '{name}'"):
        Budget(tables=((table, 8.0),))


def test_costs_too_small_to_count_are_refused():
    table = CostTable("energy", "mJ", {layer.name: dict.fromkeys(PAIRS, 1e-300) for layer in TABLE.layers})
    with pytest.raises(BudgetError, match="'energy' add up to 3e-300: give them in another unit"):
        Budget(tables=((table, 8.0),)).limits(TABLE)


def test_bits_of_no_integer_are_refused():
    with pytest.raises(BudgetError, match="integers from 1 to 64"):
        Budget(bitops_as=(10**9, 10**12))
