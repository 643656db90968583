"""The normalised indicator: by its formula, and by what it is for."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.errors import InvalidTensorError
from llt_nncf.indicators import QuantizerSet
from llt_nncf.indicators import start_step_sizes
from llt_nncf.indicators.normalized import normalize_indicators
from llt_nncf.quantizers import SwitchableQuantizer

CANDIDATES = (6, 4, 2)


class ConvNormLinear(nn.Module):
    """Convolution, batch norm and a linear layer; the convolution's weights per channel."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        # eps is what makes the scale of a convolution visible at all.
        self.norm = nn.BatchNorm2d(4, eps=0.0)
        self.fc = nn.Linear(4, 3)
        self.conv_weight = SwitchableQuantizer(CANDIDATES, is_weight=True, scale_shape=(4, 1, 1, 1))
        self.conv_input = SwitchableQuantizer(CANDIDATES)
        self.fc_weight = SwitchableQuantizer(CANDIDATES, is_weight=True)
        self.fc_input = SwitchableQuantizer(CANDIDATES, signed=False)

    def forward(self, x):
        x = functional.conv2d(self.conv_input(x), self.conv_weight(self.conv.weight), padding=1)
        x = self.fc_input(functional.relu(self.norm(x)).mean((2, 3)))
        return functional.linear(x, self.fc_weight(self.fc.weight), self.fc.bias)


def quantizer_set(net: ConvNormLinear) -> QuantizerSet:
    layers = (
        Layer("conv", 100, 72, "conv_input", CANDIDATES, CANDIDATES),
        Layer("fc", 12, 12, "fc_input", CANDIDATES, CANDIDATES),
    )
    weights = {"conv": net.conv_weight, "fc": net.fc_weight}
    return QuantizerSet(LayerTable(layers), weights, {"conv_input": net.conv_input, "fc_input": net.fc_input})


def images() -> list[torch.Tensor]:
    return list(torch.randn(3, 8, 2, 5, 5, generator=torch.Generator().manual_seed(1)))


def run(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch)


def net_scaled_by(factor: float) -> ConvNormLinear:
    """A started network whose batch norm knows its own input, with the convolution ``factor`` times as large."""
    torch.manual_seed(0)
    net = ConvNormLinear()
    with torch.no_grad():
        net.conv.weight *= factor
        x = functional.conv2d(torch.cat(images()), net.conv.weight, padding=1)
        net.norm.running_mean.copy_(x.mean((0, 2, 3)))
        net.norm.running_var.copy_(x.var((0, 2, 3)))
    start_step_sizes(net.eval(), quantizer_set(net), images(), run)
    return net


def raw_and_normalized(net: ConvNormLinear):
    quantizers = quantizer_set(net)
    raw = quantizers.read_indicators("start values")
    return raw, normalize_indicators(raw, net, quantizers, images(), run)


def test_indicators_are_step_sizes_over_the_deviation_times_the_root_of_n():
    net = net_scaled_by(1.0)
    _, normalized = raw_and_normalized(net)
    weight = net.conv.weight.detach().double().numpy()
    data = torch.cat(images()).double().numpy()
    for bits in CANDIDATES:
        mean_step = net.conv_weight.step_size(bits).double().mean().item()
        assert normalized.weights["conv"][bits] == pytest.approx(mean_step / weight.std() * math.sqrt(72), rel=1e-5)
        # One sample of the input has 2 x 5 x 5 elements.
        step = net.conv_input.step_size(bits).item()
        assert normalized.activations["conv_input"][bits] == pytest.approx(step / data.std() * math.sqrt(50), rel=1e-5)
    assert normalized.source == "start values, normalized"


@pytest.mark.parametrize("factor", [0.01, 3.0, 1000.0])
def test_scaling_a_convolution_before_a_batch_norm_changes_the_raw_indicator_only(factor: float):
    plain, scaled = net_scaled_by(1.0), net_scaled_by(factor)
    raw, normalized = raw_and_normalized(plain)
    raw_scaled, normalized_scaled = raw_and_normalized(scaled)

    torch.testing.assert_close(scaled(images()[0]), plain(images()[0]), rtol=1e-4, atol=1e-5)
    for bits in CANDIDATES:
        assert raw_scaled.weights["conv"][bits] == pytest.approx(factor * raw.weights["conv"][bits], rel=1e-5)
        for name, kind in [("conv", "weights"), ("fc", "weights"), ("conv_input", "activations")]:
            expected = getattr(normalized, kind)[name][bits]
            assert getattr(normalized_scaled, kind)[name][bits] == pytest.approx(expected, rel=1e-5)
        found = normalized_scaled.activations["fc_input"][bits]
        assert found == pytest.approx(normalized.activations["fc_input"][bits], rel=1e-4)


def test_the_deviations_are_those_of_the_float_model():
    net = net_scaled_by(1.0)
    raw, normalized = raw_and_normalized(net)
    for quantizer in quantizer_set(net).all():
        quantizer.num_bits = 2
    with torch.no_grad():
        x = functional.relu(net.norm(functional.conv2d(torch.cat(images()), net.conv.weight, padding=1)))
    deviation = np.std(x.mean((2, 3)).double().numpy())
    again = normalize_indicators(raw, net, quantizer_set(net), images(), run)
    assert again.activations == normalized.activations
    expected = raw.activations["fc_input"][4] / deviation * math.sqrt(4)
    assert again.activations["fc_input"][4] == pytest.approx(expected, rel=1e-4)


def test_a_constant_tensor_is_of_no_importance():
    net = net_scaled_by(1.0)
    nn.init.constant_(net.fc.weight, 0.25)
    _, normalized = raw_and_normalized(net)
    assert normalized.weights["fc"] == dict.fromkeys(CANDIDATES, 0.0)


def test_a_searched_quantizer_that_no_batch_reaches_is_named():
    net = net_scaled_by(1.0)
    quantizers = quantizer_set(net)
    with pytest.raises(InvalidIndicatorError, match=r"activations\['fc_input'\]\[6\] is missing"):
        normalize_indicators(
            quantizers.read_indicators(""), net, quantizers, images(), lambda model, x: model.conv_input(x)
        )


def test_data_with_nan_names_the_quantizer_that_sees_it():
    net = net_scaled_by(1.0)
    quantizers = quantizer_set(net)
    data = [torch.full((1, 2, 5, 5), math.nan)]
    with pytest.raises(InvalidTensorError, match="'conv_input' sees NaN"):
        normalize_indicators(quantizers.read_indicators(""), net, quantizers, data, run)
