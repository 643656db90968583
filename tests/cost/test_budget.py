"""A budget's limits in integers, and what it refuses."""

import math

import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
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
@pytest.mark.parametrize("name", ["gbitops", "compression_ratio", "weight_mib"])
def test_a_limit_that_is_not_positive_and_finite_is_refused_by_name(name, value):
    with pytest.raises(BudgetError, match=f"{name}={value!r} must be a positive, finite number"):
        Budget(**{name: value})


@pytest.mark.parametrize("value", [(3,), (3, 0), (3, 4.5), (3, 4, 5), 3, (3, True)], ids=str)
def test_a_pair_of_bits_that_is_none_is_refused(value):
    with pytest.raises(BudgetError, match="bitops_as=.* must be a pair of positive integers"):
        Budget(bitops_as=value)


def test_a_budget_without_a_limit_is_refused_and_told_what_there_is():
    with pytest.raises(BudgetError, match="give one or more of gbitops, bitops_as, compression_ratio, weight_mib"):
        Budget()


def test_all_faults_are_reported_at_once():
    with pytest.raises(BudgetError, match=r"gbitops=-1.*weight_mib=0"):
        Budget(gbitops=-1, weight_mib=0)
