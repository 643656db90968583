import importlib.util

import pytest
import torch
from torch import nn

from llt_nncf.cost import Budget
from llt_nncf.cost import PolicyCost
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import MissingDependencyError
from samples.compare.rivals import diffq_search
from samples.compare.rivals.diffq_search import GroupBits
from samples.compare.rivals.diffq_search import choose
from samples.compare.rivals.diffq_search import policy_of
from samples.compare.rivals.diffq_search import train

IS_INSTALLED = importlib.util.find_spec("diffq") is not None
WEIGHTS = 72 + 576 + 1152 + 64


def test_means_are_rounded_down_then_up_where_most_was_taken_and_the_budget_allows(weights_only):
    means = {"conv1": 4.0, "body.0": 3.4, "body.3": 4.9, "linear": 8.0}
    # 3 and 4 bits take 1,728 + 4,608 bits; one more for body.0 576, for body.3 1,152; the fixed layers 8 x 136.
    room_for_both = Budget(average_weight_bits=(1728 + 4608 + 576 + 1152 + 1088) / WEIGHTS)
    room_for_one = Budget(average_weight_bits=(1728 + 4608 + 1152 + 1088) / WEIGHTS)
    room_for_small = Budget(average_weight_bits=(1728 + 4608 + 1151 + 1088) / WEIGHTS)
    for budget, bits in ((room_for_both, [4, 5]), (room_for_one, [3, 5]), (room_for_small, [4, 4])):
        policy = policy_of(means, weights_only, budget)
        assert [policy.bits[name] for name in ("body.0", "body.3")] == [(b, 8) for b in bits]
        assert policy.bits["conv1"] == (8, 8)


def test_means_that_are_too_large_are_all_lowered_by_one_constant(weights_only):
    means = {"conv1": 4.0, "body.0": 5.5, "body.3": 4.2, "linear": 4.0}
    # With 9/16 off, 4.9375 and 3.6375 become 4 and 3: 2,304 + 3,456 bits. With 8/16, 5 and 3 would be 576 more.
    policy = policy_of(means, weights_only, Budget(average_weight_bits=(2304 + 3456 + 1088) / WEIGHTS))
    assert [policy.bits[name] for name in ("body.0", "body.3")] == [(4, 8), (3, 8)]


def test_whole_means_stay_as_they_are_however_much_room_there_is(weights_only):
    policy = policy_of(dict.fromkeys(weights_only.by_name, 3.0), weights_only, Budget(average_weight_bits=8.0))
    assert policy.bits["body.0"] == policy.bits["body.3"] == (3, 8)


def test_one_constant_brings_the_rounded_size_just_below_the_target():
    generator = torch.Generator().manual_seed(0)
    logits = {"a": nn.Parameter(torch.randn(500, generator=generator)), "b": nn.Parameter(torch.randn(300))}
    before = {name: logit.detach().clone() for name, logit in logits.items()}
    bits = GroupBits(logits, 8)
    target = 3.3 * 8 * 800 / 2**23
    bits.shift_to(target)
    moved = torch.cat([logits[name].detach() - before[name] for name in logits])
    assert moved.max() - moved.min() < 1e-5
    # One group of 8 weights more at one bit more would be over it.
    assert target - 8 / 2**23 <= bits.mib() <= target
    counted = sum(8 * float((2 + 6 / (1 + (-logit.detach()).exp())).round().sum()) for logit in logits.values())
    assert bits.mib() == pytest.approx(counted / 2**23)


def test_budgets_that_diffq_cannot_meet_are_refused_before_it_trains(table, weights_only, loader, small, monkeypatch):
    monkeypatch.setattr(diffq_search, "required", lambda module, package: None)
    loss = nn.CrossEntropyLoss()
    with pytest.raises(InfeasibleBudgetError, match=r"for a size, and the budget \(bitops_as\) limits none"):
        choose(small, weights_only, Budget(bitops_as=(4, 4)), loader, loss, seed=0)
    with pytest.raises(InfeasibleBudgetError, match="even with the fewest weight bits"):
        choose(small, weights_only, Budget(gbitops=1e-6, average_weight_bits=3.0), loader, loss, seed=0)
    with pytest.raises(InfeasibleBudgetError, match="no candidate of body.0, body.3"):
        choose(small, table, Budget(average_weight_bits=3.0), loader, loss, seed=0)
    with pytest.raises(InfeasibleBudgetError, match="fewest 2 bits take"):
        train(small, weights_only, 1.9 * WEIGHTS / 2**23, loader, loss, seed=0, epochs=1, lr=0.01)


# DiffQ itself reads scalars from tensors with gradients.
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")
def test_diffq_ends_within_the_size_or_says_how_to_install_it(small, weights_only, loader):
    budget = Budget(average_weight_bits=3.0)
    arguments = (small, weights_only, budget, loader, nn.CrossEntropyLoss())
    if not IS_INSTALLED:
        with pytest.raises(MissingDependencyError, match=r"diffq-fixed .*pip install llt_nncf\[compare\]"):
            choose(*arguments, seed=0)
        return
    before = {name: value.clone() for name, value in small.state_dict().items()}
    choice = choose(*arguments, seed=0, epochs=6)
    assert choice.passes == 6 * 4
    assert PolicyCost.from_policy(choice.policy, weights_only).average_weight_bits <= 3.0
    assert list(small.state_dict()) == list(before)
    assert all(torch.equal(before[name], value) for name, value in small.state_dict().items())

    target = 3.0 * WEIGHTS / 2**23
    trained = train(small, weights_only, target, loader, nn.CrossEntropyLoss(), seed=0, epochs=6, lr=0.01)
    assert 0.97 * target < trained.weight_mib <= target
    weights = sum(mean * weights_only.by_name[name].weight_count for name, mean in trained.layer_bits.items())
    assert weights / 2**23 == pytest.approx(trained.weight_mib)
    assert trained.true_mib > trained.weight_mib
    images, _ = next(iter(loader))
    assert not torch.equal(trained.model(images), small(images))
