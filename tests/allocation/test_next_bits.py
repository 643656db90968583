"""What one more or one less bit would cost, against the policy with that change, costed anew."""

import pytest

from llt_nncf.allocation import Restrictions
from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import BitPolicy
from llt_nncf.cost import Budget
from llt_nncf.cost import PolicyCost


def objective_of(indicators, bits):
    first_of_group = [(group, layers[0].name) for group, layers in indicators.table.groups.items()]
    weights = sum(indicators.weights[name][w] for name, (w, _) in bits.items())
    return weights + sum(indicators.activations[group][bits[name][1]] for group, name in first_of_group)


@pytest.mark.parametrize("tied", [False, True])
def test_every_change_is_what_it_says(tied, make_indicators):
    indicators = make_indicators(2, (1, 2, 1))
    budget = Budget(bitops_as=(3, 3), compression_ratio=8.0)
    found = allocate_bits(indicators, budget, outliers="keep", explain=True, restrictions=Restrictions(tied=tied))
    assert found.next_bits
    most_bitops, most_size = (use.limit for use in found.limits)
    for row in found.next_bits:
        bits = dict(found.policy.bits)
        for name in row.layers:
            w, a = bits[name]
            assert row.from_bits == (w if row.kind == "weights" else a)
            bits[name] = (row.to_bits if tied or row.kind == "weights" else w, row.to_bits if tied else a)
            if row.kind == "activations":
                bits[name] = (bits[name][0], row.to_bits)
        cost = PolicyCost.from_policy(BitPolicy(bits), indicators.table)
        assert row.objective_change == pytest.approx(objective_of(indicators, bits) - found.objective, abs=1e-12)
        assert row.limit_changes["bitops_as"] == pytest.approx(cost.gbitops - found.cost.gbitops, abs=1e-12)
        ratio_change = cost.compression_ratio - found.cost.compression_ratio
        assert row.limit_changes["compression_ratio"] == pytest.approx(ratio_change, abs=1e-12)
        assert row.fits == (cost.gbitops <= most_bitops and cost.compression_ratio >= most_size)
        # The policy is optimal: what would be better does not fit.
        assert row.objective_change > 0 or not row.fits


def test_the_two_neighbours_of_every_choice_are_listed_and_groups_move_together(make_indicators):
    indicators = make_indicators(2, (1, 2, 1))
    found = allocate_bits(indicators, Budget(bitops_as=(3, 3)), explain=True)
    candidates = (6, 4, 3, 2)
    for name, (w, a) in found.policy.bits.items():
        group = [layer.name for layer in indicators.table.groups[indicators.table.by_name[name].activation_group]]
        for kind, layers, here in (("weights", [name], w), ("activations", group, a)):
            at = candidates.index(here)
            expected = sorted({*candidates[max(0, at - 1) : at], *candidates[at + 1 : at + 2]})
            rows = [row for row in found.next_bits if row.kind == kind and row.layers == tuple(layers)]
            assert sorted(row.to_bits for row in rows) == expected


def test_nothing_is_explained_unless_asked_for(make_indicators):
    assert allocate_bits(make_indicators(2, (1,)), Budget(gbitops=1.0)).next_bits == ()
