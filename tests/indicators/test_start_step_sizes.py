"""Start values of a small network, and the statistics that they come from, against numpy float64."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ConfigError
from llt_nncf.errors import InvalidTensorError
from llt_nncf.indicators import QuantizerSet
from llt_nncf.indicators import start_step_sizes
from llt_nncf.indicators.open_quantizers import open_quantizers
from llt_nncf.indicators.tensor_statistics import TensorStatistics
from llt_nncf.indicators.tensor_statistics import observe_tensors
from llt_nncf.quantizers import SwitchableQuantizer

CANDIDATES = (8, 4, 2)


class OneLayer(nn.Module):
    """A convolution with weights per channel; what the input quantizer returns is changed in place afterwards."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, bias=False)
        self.weight = SwitchableQuantizer(CANDIDATES, is_weight=True, scale_shape=(3, 1, 1, 1))
        self.input = SwitchableQuantizer(CANDIDATES)

    def forward(self, x):
        return functional.conv2d(self.input(x.clone()).relu_(), self.weight(self.conv.weight))


def net_and_set() -> tuple[OneLayer, QuantizerSet]:
    torch.manual_seed(0)
    net = OneLayer()
    table = LayerTable((Layer("conv", 54, 54, "input", CANDIDATES, CANDIDATES),))
    return net, QuantizerSet(table, {"conv": net.weight}, {"input": net.input})


def images(count: int) -> list[torch.Tensor]:
    return list(torch.randn(count, 4, 2, 6, 6, generator=torch.Generator().manual_seed(1)))


def run(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch)


def squared_error(x: np.ndarray, step: float, bits: int) -> float:
    codes = np.clip(np.rint(x / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return float(((codes * step - x) ** 2).sum())


def test_min_max_covers_the_range_of_all_batches_at_every_bit_width():
    net, quantizers = net_and_set()
    start_step_sizes(net, quantizers, images(3), run, start_values="min_max")
    reach = torch.cat(images(3)).abs().max()
    weight_reach = net.conv.weight.detach().abs().amax((1, 2, 3), keepdim=True)
    for bits in CANDIDATES:
        qmax = 2 ** (bits - 1) - 1
        torch.testing.assert_close(net.input.step_size(bits), (reach / qmax).reshape(1))
        torch.testing.assert_close(net.weight.step_size(bits), weight_reach / qmax)


@pytest.mark.parametrize("bits", [4, 2])
def test_mse_is_within_one_percent_of_the_least_error_over_all_batches(bits: int):
    net, quantizers = net_and_set()
    start_step_sizes(net, quantizers, images(3), run, start_values="mse")
    tensors = [torch.cat(images(3)).double().numpy(), *net.conv.weight.detach().double().numpy()]
    found = [net.input.step_size(bits).item(), *net.weight.step_size(bits).flatten().tolist()]
    for x, step in zip(tensors, found, strict=True):
        tried = np.geomspace(0.01, 1.5, 3000) * np.abs(x).max() / (2 ** (bits - 1) - 1)
        assert squared_error(x, step, bits) <= 1.01 * min(squared_error(x, trial, bits) for trial in tried)


@pytest.mark.parametrize("start_values", ["lsq", "min_max", "mse"])
def test_eight_bits_cover_the_range_unless_one_was_set(start_values: str):
    net, quantizers = net_and_set()
    net.weight.set_step_size(8, torch.tensor(0.5))
    net.weight.has_range = True
    start_step_sizes(net, quantizers, images(2), run, start_values=start_values)
    torch.testing.assert_close(net.input.step_size(8), (torch.cat(images(2)).abs().max() / 127).reshape(1))
    torch.testing.assert_close(net.weight.step_size(8), torch.full((3, 1, 1, 1), 0.5))
    assert bool((net.weight.step_size(4) != 1.0).all())


def test_unknown_start_values_are_refused_before_any_data_is_read():
    net, quantizers = net_and_set()

    def no_batches():
        pytest.fail("a batch was read")
        yield

    with pytest.raises(ConfigError, match="'median' is not known: give one of lsq, min_max, mse"):
        start_step_sizes(net, quantizers, no_batches(), run, start_values="median")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("start_values", ["lsq", "min_max", "mse"])
def test_values_that_are_not_finite_name_the_quantizer_that_sees_them(start_values: str, bad: float):
    net, quantizers = net_and_set()
    data = images(2)
    data[1][3, 1, 5, 5] = bad
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InvalidTensorError, match="'input' sees NaN or infinity"):
        start_step_sizes(net, quantizers, data, run, start_values=start_values)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_quantizers_that_no_batch_reaches_keep_their_step_sizes():
    net, quantizers = net_and_set()
    start_step_sizes(net, quantizers, images(1), lambda model, x: model.weight(model.conv.weight), start_values="mse")
    assert bool((net.input.step_size(4) == 1.0 + 1e-8).all())
    assert bool((net.weight.step_size(4) != 1.0).all())


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch.compile's own doing
def test_an_open_quantizer_returns_the_very_tensor_also_under_torch_compile():
    net, quantizers = net_and_set()
    compiled = torch.compile(net.input, backend="eager")
    x = images(1)[0]
    closed = compiled(x)
    assert not torch.equal(closed, x)
    with open_quantizers(quantizers):
        assert net.input(x) is x
        assert net.weight(net.conv.weight) is net.conv.weight
        assert torch.equal(compiled(x), x)
    assert torch.equal(net.input(x), closed)
    assert torch.equal(compiled(x), closed)


def test_quantizers_close_again_after_an_error():
    net, quantizers = net_and_set()
    x = images(1)[0]
    with pytest.raises(ZeroDivisionError), open_quantizers(quantizers):
        raise ZeroDivisionError
    assert not torch.equal(net.input(x), x)


def test_weights_are_observed_once_and_activations_in_every_batch():
    net, quantizers = net_and_set()
    observed = observe_tensors(net, quantizers, images(5), run)
    assert observed[net.weight].count == net.conv.weight.numel()
    assert observed[net.input].count == torch.cat(images(5)).numel()


@pytest.mark.parametrize("scale_shape", [(1,), (1, 3, 1, 1)], ids=["per-tensor", "per-channel"])
def test_statistics_are_those_of_all_tensors_together(scale_shape: tuple[int, ...]):
    generator = np.random.default_rng(0)
    # Far from zero, so that a naive sum of squares in float32 would lose the deviation.
    batches = [generator.normal(300.0, 0.5, size=(size, 3, 200, 200)).astype(np.float32) for size in (8, 1)]
    statistics = TensorStatistics(scale_shape)
    for batch in batches:
        statistics.add(torch.from_numpy(batch))
    every = np.concatenate(batches).astype(np.float64)
    axes = None if scale_shape == (1,) else (0, 2, 3)
    for found, expected in [
        (statistics.low, every.min(axes)),
        (statistics.high, every.max(axes)),
        (statistics.mean_abs, np.abs(every).mean(axes)),
    ]:
        assert found.shape == scale_shape
        assert found.flatten().double().numpy() == pytest.approx(expected, rel=1e-6)
    assert statistics.std == pytest.approx(every.std(), rel=1e-4)
    assert statistics.count == every.size
    assert statistics.count_per_sample == 3 * 200 * 200


def test_tensors_without_elements_count_for_nothing():
    statistics = TensorStatistics((1,))
    statistics.add(torch.empty(0, 5))
    assert statistics.is_empty
    statistics.add(torch.ones(2, 5))
    statistics.add(torch.empty(2, 0))
    assert (statistics.count, statistics.count_per_sample) == (10, 5)


def test_the_sample_is_bounded_and_takes_as_much_from_every_batch():
    statistics = TensorStatistics((1,))
    for index in range(40):
        statistics.add(torch.full((2, 50_000), float(index)))
    sample = statistics.sample
    assert 2**15 <= sample.numel() <= 2**16
    assert len(set(torch.bincount(sample.flatten().long(), minlength=40).tolist())) == 1


def test_a_constant_tensor_deviates_by_exactly_nothing():
    statistics = TensorStatistics((1,))
    statistics.add(torch.full((3, 700_000), 0.1))
    assert statistics.std == 0.0
