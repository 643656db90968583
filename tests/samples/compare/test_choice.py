import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.cost import Budget
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import MissingDependencyError
from samples.compare.rivals.choice import is_within
from samples.compare.rivals.choice import largest_share
from samples.compare.rivals.choice import limits_by_kind
from samples.compare.rivals.choice import required
from samples.compare.rivals.choice import share_note

# Of the table in conftest.py: the fixed layers' weights, the searched ones', and the same of MACs.
FIXED, SEARCHED = 72 + 64, 576 + 1152
FIXED_MACS, SEARCHED_MACS = 64 * 72 + 64, 64 * 576 + 36 * 1152


def test_a_missing_package_is_an_error_that_says_what_to_install():
    with pytest.raises(MissingDependencyError, match=r"no-such-rival .*pip install llt_nncf\[compare\]"):
        required("no_such_rival", "no-such-rival")


def test_the_tightest_limit_of_each_kind_counts_the_fixed_layers(table):
    budget = Budget(bitops_as=(3, 4), average_weight_bits=3.5, weight_mib=1.0)
    assert limits_by_kind("it", table, budget) == {
        "bitops": 12 * SEARCHED_MACS + 64 * FIXED_MACS,
        "weight_bits": int(3.5 * (FIXED + SEARCHED)),
    }


def test_what_a_limit_leaves_out_is_added_for_a_rival_that_counts_all(table):
    budget = Budget(average_weight_bits=3.0, bitops_as=(3, 4), without_fixed=("average_weight_bits", "bitops_as"))
    assert limits_by_kind("it", table, budget) == {
        "bitops": 12 * SEARCHED_MACS + 64 * FIXED_MACS,
        "weight_bits": 3 * SEARCHED + 8 * FIXED,
    }


def test_a_limit_that_the_rivals_have_no_rule_for_is_refused(table):
    with pytest.raises(InfeasibleBudgetError, match="MCT has no rule for a limit on average_activation_bits"):
        limits_by_kind("MCT", table, Budget(average_activation_bits=3.0))


def test_shares_are_of_the_tightest_limit_and_named_in_the_note(table):
    policy = BitPolicy.uniform(table, weight_bits=3, activation_bits=3)
    exact = Budget(bitops_as=(3, 3))
    assert is_within(policy, table, exact)
    assert largest_share(policy, table, exact) == 1
    over = Budget(bitops_as=(4, 4), weight_mib=(3 * SEARCHED + 8 * FIXED) / 2**23 / 1.25)
    assert not is_within(policy, table, over)
    assert largest_share(policy, table, over) == pytest.approx(1.25, abs=1e-3)
    assert "125.0" in share_note(policy, table, over)
