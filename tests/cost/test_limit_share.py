"""How far a policy uses a budget, against numbers worked out by hand."""

import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.cost import PolicyCost
from llt_nncf.cost import limit_shares

TABLE = LayerTable(
    (
        Layer("first", 1000, 100, "input", (8,), (8,)),
        Layer("middle", 300, 2000, "middle", (6, 4, 2), (6, 4, 2)),
    )
)
POLICY = BitPolicy({"first": (8, 8), "middle": (4, 2)})


def test_each_share_is_the_cost_over_the_most_that_is_allowed():
    pairs = {(w, a): 1.5 for w in (8, 6, 4, 2) for a in (8, 6, 4, 2)}
    energy = CostTable("energy", "mJ", {"first": pairs, "middle": pairs})
    budget = Budget(
        gbitops=1e-4,
        compression_ratio=4.0,
        average_weight_bits=5.0,
        average_activation_bits=8.0,
        tables=((energy, 4.0),),
    )
    shares = {share.name: share for share in limit_shares(budget, POLICY, TABLE)}
    bitops, weights, activations = 1000 * 64 + 300 * 8, 100 * 8 + 2000 * 4, 1000 * 8 + 300 * 2
    assert shares["gbitops"].share == pytest.approx(bitops / 1e5)
    assert (shares["gbitops"].used, shares["gbitops"].allowed) == (bitops / 1e9, 1e-4)
    # Smaller by 67200 / 8800 = 7.6, where 4 was asked for.
    assert (shares["compression_ratio"].used, shares["compression_ratio"].allowed) == (2100 * 32 / weights, 4.0)
    assert shares["compression_ratio"].share == pytest.approx(4.0 / (2100 * 32 / weights))
    assert shares["average_weight_bits"].share == pytest.approx(weights / 2100 / 5)
    assert shares["average_activation_bits"].used == pytest.approx(activations / 1300)
    assert (shares["energy"].unit, shares["energy"].share) == ("mJ", pytest.approx(0.75))


def test_a_policy_beyond_the_budget_has_more_than_all_of_it():
    (share,) = limit_shares(Budget(bitops_as=(2, 2)), POLICY, TABLE)
    assert share.share == pytest.approx((64_000 + 300 * 8) / (64_000 + 300 * 4))


def test_layers_without_a_choice_can_be_left_out():
    (share,) = limit_shares(Budget(average_weight_bits=4.0, without_fixed=("average_weight_bits",)), POLICY, TABLE)
    assert (share.used, share.share) == (4.0, 1.0)


def test_averages_count_by_weights_and_by_macs():
    cost = PolicyCost.from_policy(POLICY, TABLE)
    assert cost.average_weight_bits == (100 * 8 + 2000 * 4) / 2100
    assert cost.average_activation_bits == (1000 * 8 + 300 * 2) / 1300
