import pytest
import torch
from torch import Tensor
from torch import nn

from llt_nncf.functional import dequantize
from llt_nncf.functional import fold_batch_norm
from llt_nncf.functional import integer_range
from llt_nncf.functional import round_bias_to_grid


def batch_norm(channels: int, gains: list[float]) -> nn.BatchNorm2d:
    """A trained-looking batch norm in eval mode whose gamma cycles through ``gains``; float64."""
    generator = torch.Generator().manual_seed(1)
    norm = nn.BatchNorm2d(channels).double().eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(gains).repeat(channels)[:channels])
        norm.bias.copy_(torch.randn(channels, generator=generator))
        norm.running_mean.copy_(torch.randn(channels, generator=generator))
        norm.running_var.copy_(0.5 + torch.rand(channels, generator=generator))
    return norm


def gain_and_shift(norm: nn.BatchNorm2d) -> dict[str, Tensor]:
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return {"gain": gain.detach(), "shift": (norm.bias - norm.running_mean * gain).detach()}


@pytest.mark.parametrize("step_shape", ["per-tensor", "per-channel"])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "transposed", "no-bias"])
@pytest.mark.parametrize("num_bits", [2, 4, 8])
def test_folded_layer_equals_layer_and_batch_norm(num_bits: int, kind: str, step_shape: str):
    channels = 6
    make = nn.ConvTranspose2d if kind == "transposed" else nn.Conv2d
    groups = channels if kind == "depthwise" else 1
    layer = make(channels, channels, 3, groups=groups, bias=kind != "no-bias").double()
    channel_dim = 1 if kind == "transposed" else 0
    # Positive, negative and zero gains: the three cases of the fold.
    norm = batch_norm(channels, [1.5, -0.7, 0.0, 0.2, -3.0])
    generator = torch.Generator().manual_seed(num_bits)
    qmin, qmax = integer_range(num_bits, signed=True, narrow_range=num_bits == 8)
    codes = torch.randint(qmin, qmax + 1, layer.weight.shape, generator=generator)
    codes.view(-1)[:2] = torch.tensor([qmin, qmax])
    shape = [1] * 4
    shape[channel_dim] = channels if step_shape == "per-channel" else 1
    step = 0.01 + torch.rand(shape, generator=generator, dtype=torch.float64)
    layer.weight.data = dequantize(codes, step)
    x = torch.randn(2, channels, 5, 5, generator=generator, dtype=torch.float64)
    expected = norm(layer(x))

    bias = None if layer.bias is None else layer.bias.detach()
    codes, step, bias = fold_batch_norm(
        codes.to(torch.int8), step, bias, **gain_and_shift(norm), channel_dim=channel_dim
    )
    folded = make(channels, channels, 3, groups=groups).double()
    folded.weight.data, folded.bias.data = dequantize(codes, step), bias

    assert codes.dtype == torch.int8
    assert step.shape[channel_dim] == step.numel() == channels
    assert (step > 0).all()
    torch.testing.assert_close(folded(x), expected, rtol=1e-12, atol=1e-12)


def test_a_negative_gain_turns_the_lowest_code_into_one_beyond_the_highest():
    codes, step, _ = fold_batch_norm(
        torch.tensor([[-8], [7]], dtype=torch.int8),
        torch.ones(1),
        None,
        gain=torch.tensor([-2.0, -2.0]),
        shift=torch.zeros(2),
    )
    assert codes.flatten().tolist() == [8, -7]
    assert step.flatten().tolist() == [2.0, 2.0]


def test_bias_moves_to_the_nearest_point_of_the_accumulator_grid():
    generator = torch.Generator().manual_seed(0)
    bias = torch.randn(64, generator=generator)
    grid = 1e-3 + 1e-2 * torch.rand(64, generator=generator)
    rounded = round_bias_to_grid(bias, grid)
    codes = rounded.double() / grid.double()
    assert rounded.dtype == bias.dtype
    assert ((bias - rounded).abs() <= grid * (0.5 + 1e-4)).all()
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)
    torch.testing.assert_close(round_bias_to_grid(rounded, grid), rounded, rtol=0, atol=0)


def test_bias_beyond_int32_is_held_at_its_end():
    rounded = round_bias_to_grid(torch.tensor([1e6, -1e6], dtype=torch.float64), torch.tensor(1e-6))
    # The grid is float32, so its double value is not exactly 1e-6.
    end = (2**31 - 1) * float(torch.tensor(1e-6))
    assert rounded.tolist() == [end, -end]
