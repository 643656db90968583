"""What the search says when nothing meets the budget."""

import re

import pytest

from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.cost import Limit
from llt_nncf.errors import InfeasibleBudgetError

MIB = 2**20
TABLE = LayerTable(
    (
        Layer("first", 10**9, MIB, "input", (8,), (8,)),
        Layer("middle", 10**9, 4 * MIB, "middle", (4, 2), (4, 2)),
        Layer("last", 10**9, MIB, "last", (4, 2), (8,)),
    )
)
INDICATORS = IndicatorTable(
    TABLE, {name: {4: 0.1, 2: 0.5} for name in ("middle", "last")}, {"middle": {4: 0.1, 2: 0.5}}
)
# Smallest: 1 + 4 * 2/8 + 2/8 = 2.25 MiB of 24 MiB in 32 bits; 64 + 2 * 2 + 2 * 8 = 84 GBitOPs.


def message(budget):
    with pytest.raises(InfeasibleBudgetError) as caught:
        allocate_bits(INDICATORS, budget)
    return str(caught.value)


def test_a_size_out_of_reach_names_the_smallest_and_the_layers_with_fixed_weights():
    text = message(Budget(weight_mib=2.2))
    assert "weight_mib=2.2 cannot be met: the smallest reachable value is 2.25 MiB (fixed: 'first' at W8)" in text
    assert "budget.weight_mib" in text


def test_bitops_out_of_reach_name_every_fixed_quantizer():
    expected = (
        "gbitops=80 cannot be met: the smallest reachable value is 84 GBitOPs (fixed: 'first' at W8A8, 'last' at A8)"
    )
    assert expected in message(Budget(gbitops=80))


def test_bits_of_a_uniform_policy_out_of_reach_are_named_as_given():
    assert "bitops_as=(1, 2) (74 GBitOPs) cannot be met" in message(Budget(bitops_as=(1, 2)))


def test_a_compression_out_of_reach_names_the_largest():
    expected = "compression_ratio=12 cannot be met: the largest reachable value is 10.6666 x"
    assert expected in message(Budget(compression_ratio=12))


def test_only_the_limits_out_of_reach_are_to_be_loosened():
    text = message(Budget(gbitops=90, weight_mib=2.0))
    assert "gbitops=90 can be met alone: the smallest reachable value is 84 GBitOPs" in text
    assert re.search(r"Loosen budget\.weight_mib, ", text)


def test_the_smallest_reachable_values_are_reached_together():
    found = allocate_bits(INDICATORS, Budget(gbitops=84, weight_mib=2.25))
    assert found.policy.bits == {"first": (8, 8), "middle": (2, 2), "last": (2, 8)}
    assert [use.slack for use in found.limits] == [0.0, 0.0]


def test_limits_that_can_be_met_alone_but_not_together_are_told_apart():
    class Opposed:
        def limits(self, table):
            return [
                Limit("up", "12", lambda layer, w, a: w, 12, "bits", float),
                Limit("down", "-13", lambda layer, w, a: -w, -13, "bits", float),
            ]

    text = message(Opposed())
    assert "up=12 can be met alone" in text
    assert "Every limit can be met alone, but not all of them together" in text
