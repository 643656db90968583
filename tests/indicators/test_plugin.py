"""Functions that take the place of the trained indicators."""

import pytest
from torch import nn

from llt_nncf.artifacts import PairScoreTable
from llt_nncf.errors import ConfigError
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.indicators import plugin
from llt_nncf.indicators import register_indicator
from llt_nncf.indicators import registered_indicators
from llt_nncf.indicators import score_pairs
from tests.indicators.tiny_net import batches
from tests.indicators.tiny_net import loss_fn
from tests.indicators.tiny_net import quantizer_set
from tests.indicators.tiny_net import started_net


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch):
    monkeypatch.setattr(plugin, "_plugins", {})


def loss_increase(model: nn.Module, data, quantizers) -> PairScoreTable:
    """What the loss rises by when one layer alone takes a pair of bits."""

    def loss() -> float:
        return sum(loss_fn(model, batch).item() for batch in data)

    best, scores = loss(), {}
    for layer in quantizers.table.layers:
        weight, activation = quantizers.weights[layer.name], quantizers.activations[layer.activation_group]
        scores[layer.name] = {}
        for weight.num_bits in layer.weight_bits:
            for activation.num_bits in layer.activation_bits:
                scores[layer.name][weight.num_bits, activation.num_bits] = loss() - best
        weight.num_bits, activation.num_bits = layer.weight_bits[0], layer.activation_bits[0]
    return PairScoreTable(quantizers.table, scores)


def test_a_function_scores_pairs_and_finds_the_model_in_evaluation_mode_at_the_highest_bits():
    net, seen = started_net().train(), []
    quantizers = quantizer_set(net)
    net.conv_weight.num_bits = 2

    @register_indicator("loss_increase")
    def scored(model, data, given):
        seen.append((model.training, net.conv_weight.num_bits, given))
        return loss_increase(model, data, given)

    assert registered_indicators() == ("loss_increase",)
    scores = score_pairs("loss_increase", net, batches(2), quantizers)
    assert seen == [(False, 4, quantizers)]
    assert scores.scores["conv"][4, 4] == 0.0
    assert scores.scores["conv"][2, 2] != scores.scores["conv"][4, 3]  # the bits took effect
    assert (net.training, net.conv_weight.num_bits) == (True, 2)


def test_bits_and_mode_are_put_back_when_a_function_fails():
    net = started_net().train()
    net.conv_weight.num_bits = 3

    @register_indicator("failing")
    def fail(model, data, quantizers):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        score_pairs("failing", net, [], quantizer_set(net))
    assert (net.training, net.conv_weight.num_bits) == (True, 3)


def test_a_function_that_returns_something_else_is_refused_by_name():
    net = started_net()
    register_indicator("empty")(lambda model, data, quantizers: {})
    with pytest.raises(InvalidIndicatorError, match=r"'empty' must return a PairScoreTable.*returned \{\}"):
        score_pairs("empty", net, [], quantizer_set(net))


def test_a_name_is_taken_once():
    register_indicator("mine")(loss_increase)
    register_indicator("mine")(loss_increase)
    with pytest.raises(ConfigError, match="'mine' is there already"):
        register_indicator("mine")(lambda model, data, quantizers: None)
    with pytest.raises(ConfigError, match="'normalized' is there already"):
        register_indicator("normalized")(loss_increase)
