import random

import llt_nncf.register  # noqa: F401  before nncf.torch

# isort: split

import pytest
import torch
from nncf.torch.quantization.precision_init.hawq_init import HAWQPrecisionInitializer
from torch import nn

from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.cost import PolicyCost
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import InfeasibleBudgetError
from samples.compare.rivals import hawq_search
from samples.compare.rivals.hawq_search import Answer
from samples.compare.rivals.hawq_search import answered_ratios
from samples.compare.rivals.hawq_search import answers
from samples.compare.rivals.hawq_search import best_answer
from samples.compare.rivals.hawq_search import policy_of
from samples.compare.rivals.nncf_int8 import int8_model
from samples.compare.rivals.nncf_int8 import int8_policy


@pytest.mark.parametrize("seed", range(5))
def test_the_ratios_asked_give_every_answer_that_nncf_has(seed: int):
    """NNCF's own choice is asked at every ratio; equal ratios are among them."""
    draw = random.Random(seed)
    ratios = [draw.randint(10, 30) / 10 for _ in range(40)]
    metrics = draw.sample(range(1000), 40)
    tensors = [torch.tensor([float(metric)]) for metric in metrics]
    pick = HAWQPrecisionInitializer.choose_qconfig_sequence
    everything = {pick(tensors, ratios, ratio) for ratio in ratios}
    asked = answered_ratios(ratios, metrics)
    assert sorted(set(asked)) == asked
    assert {pick(tensors, ratios, ratio) for ratio in asked} == everything


def test_the_answer_that_uses_most_of_the_budget_is_taken(table):
    found = [
        Answer(1.5, {"body.0": (5, 5), "body.3": (5, 5)}),
        Answer(2.5, {"body.0": (3, 3), "body.3": (4, 4)}),
        Answer(2.6, {"body.0": (4, 4), "body.3": (3, 3)}),
        Answer(4.0, {"body.0": (2, 2), "body.3": (2, 2)}),
    ]
    # body.3 has more MACs (36 x 1152 = 41,472) than body.0 (64 x 576 = 36,864).
    policy, notes = best_answer(found, table, Budget(bitops_as=(4, 4)))
    assert policy.bits == {"conv1": (8, 8), "body.0": (3, 3), "body.3": (4, 4), "linear": (8, 8)}
    assert "2.5" in notes[1]


def test_a_budget_below_every_answer_is_refused_with_the_nearest(table):
    found = [Answer(2.0, {"body.0": (4, 4), "body.3": (4, 4)}), Answer(2.6, {"body.0": (3, 3), "body.3": (3, 3)})]
    used = PolicyCost.from_policy(policy_of(found[1], table), table).bitops
    percent = 100 * used / (used - 5 * (64 * 576 + 36 * 1152))
    with pytest.raises(InfeasibleBudgetError, match=rf"2 answers .*{percent:.2f} % of the limit"):
        best_answer(found, table, Budget(bitops_as=(2, 2)))


def test_layers_of_one_activation_quantizer_get_the_most_bits_of_them():
    bits = (8, 4, 2)
    rows = tuple(Layer(name, 100, 100, "shared", bits, bits) for name in ("left", "right"))
    policy = policy_of(Answer(2.0, {"left": (2, 2), "right": (4, 4)}), LayerTable(rows))
    assert policy.bits == {"left": (2, 4), "right": (4, 4)}


def test_bits_that_the_table_does_not_have_are_an_error(table):
    with pytest.raises(ArtifactError, match="body.0: weight bits 8"):
        policy_of(Answer(1.0, {"body.0": (8, 8), "body.3": (4, 4)}), table)


# NNCF compiles its extension in a pool of threads that it does not close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_hawq_chooses_within_the_budget_and_leaves_model_and_generator_alone(small, table, loader, monkeypatch):
    monkeypatch.setattr(hawq_search, "_ITERATIONS", 3)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    state = torch.get_rng_state()
    budget = Budget(bitops_as=(4, 4))
    found, passes = answers(small, table, loader, nn.CrossEntropyLoss(), seed=0)
    policy, _ = best_answer(found, table, budget)
    assert PolicyCost.from_policy(policy, table).bitops <= budget.limits(table)[0].limit
    assert all(w == a for w, a in policy.bits.values())  # HAWQ ties them
    # Three traces, and the ranges twice: NNCF wants more images for each than the 4 batches have.
    assert passes == pytest.approx(2 * 3 * 4 + 2 * 4 / 3)
    assert all(torch.equal(before[name], value) for name, value in small.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_int8_is_a_policy_only_where_8_bits_are_candidates(table):
    with pytest.raises(ArtifactError, match="body.0: weight bits 8"):
        int8_policy(table)
    rows = tuple(
        Layer(row.name, row.macs, row.weight_count, row.activation_group, (8, 4), (8, 4)) for row in table.layers
    )
    assert set(int8_policy(LayerTable(rows)).bits.values()) == {(8, 8)}


def test_the_int8_model_of_nncf_is_near_the_float_model(small, loader):
    quantized, _ = int8_model(small, loader)
    images, _ = next(iter(loader))
    wanted = small(images)
    error = (quantized.eval()(images) - wanted).abs().max()
    # Eight roundings of at most half of 1/128 of a range each add up to far less than a tenth of it.
    assert 0 < error < 0.1 * wanted.abs().max()
