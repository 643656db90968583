"""``fake_quantize`` against the paper's equations in numpy float64, and against PyTorch's own learnable quantizer."""

import numpy as np
import pytest
import torch
from torch import Tensor

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.functional import dequantize
from llt_nncf.functional import fake_quantize
from llt_nncf.functional import quantize_to_int

GRIDS = [
    pytest.param(
        num_bits, signed, narrow, id=f"{num_bits}-bit-{'signed' if signed else 'unsigned'}{'-narrow' * narrow}"
    )
    for num_bits in range(2, 9)
    for signed, narrow in ((True, False), (True, True), (False, False))
]
SHAPES = [pytest.param((1,), id="per-tensor"), pytest.param((6, 1, 1, 1), id="per-channel")]


def bounds(num_bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """The range as LSQ writes it: [-Qn, Qp]."""
    if not signed:
        return 0, 2**num_bits - 1
    return -(2 ** (num_bits - 1)) + narrow, 2 ** (num_bits - 1) - 1


def example(step_shape: tuple[int, ...], num_bits: int, signed: bool, narrow: bool) -> tuple[Tensor, Tensor]:
    """Values of shape (6, 5, 3, 3) that reach some steps beyond both ends of the grid, and step sizes; float64."""
    generator = torch.Generator().manual_seed(num_bits)
    step = 0.01 + 0.2 * torch.rand(step_shape, generator=generator, dtype=torch.float64)
    low, high = bounds(num_bits, signed, narrow)
    codes = low - 3 + (high - low + 6) * torch.rand(6, 5, 3, 3, generator=generator, dtype=torch.float64)
    return codes * step, step


def oracle(x: np.ndarray, s: np.ndarray, upstream: np.ndarray, qn: int, qp: int) -> tuple[np.ndarray, ...]:
    """
    Eq. 1-3 of LSQ: value, gradient of ``x``, and gradient of ``s`` without the gradient scale.

    :param x: Values; none lies exactly on an end of the range.
    :param s: Step sizes, broadcastable to ``x``, with as many dimensions or one.
    :param upstream: Gradient of the value.
    """
    v = x / s
    value = np.rint(np.clip(v, qn, qp)) * s
    slope = np.where(v <= qn, qn, np.where(v >= qp, qp, np.rint(v) - v))
    grad_s = upstream * slope
    axes = tuple(range(1, x.ndim)) if s.ndim == x.ndim else None
    return value, upstream * ((v > qn) & (v < qp)), grad_s.sum(axis=axes).reshape(s.shape)


@pytest.mark.parametrize("step_shape", SHAPES)
@pytest.mark.parametrize(("num_bits", "signed", "narrow"), GRIDS)
def test_value_and_both_gradients_are_those_of_the_paper(num_bits: int, signed: bool, narrow: bool, step_shape):
    x, step = example(step_shape, num_bits, signed, narrow)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()
    step.requires_grad_()
    qn, qp = bounds(num_bits, signed, narrow)

    fake_quantize(x, step, num_bits=num_bits, signed=signed, narrow_range=narrow).backward(upstream)
    value, grad_x, grad_step = oracle(x.detach().numpy(), step.detach().numpy(), upstream.numpy(), qn, qp)

    actual = fake_quantize(x, step, num_bits=num_bits, signed=signed, narrow_range=narrow)
    np.testing.assert_allclose(actual.detach().numpy(), value, rtol=1e-14)
    np.testing.assert_array_equal(x.grad.numpy(), grad_x)
    # Sec. 2.2: g = 1 / sqrt(N * Qp), N the elements that share a step size: 6*5*3*3 = 270 or 5*3*3 = 45.
    shared = 270 if step_shape == (1,) else 45
    np.testing.assert_allclose(step.grad.numpy(), grad_step / np.sqrt(shared * qp), rtol=1e-9)


@pytest.mark.parametrize(("num_bits", "signed", "narrow"), GRIDS)
def test_pytorch_agrees(num_bits: int, signed: bool, narrow: bool):
    x, step = (t.float() for t in example((1,), num_bits, signed, narrow))
    qn, qp = bounds(num_bits, signed, narrow)
    # PyTorch passes the gradient of x where the rounded code is in range, LSQ where x itself is: half a step apart.
    beyond = torch.maximum(qn - x / step, x / step - qp)
    x = x[(beyond < 0) | (beyond > 0.5)].requires_grad_()
    step.requires_grad_()
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))

    ours = fake_quantize(x, step, num_bits=num_bits, signed=signed, narrow_range=narrow, grad_scale=0.25)
    theirs = torch._fake_quantize_learnable_per_tensor_affine(x, step, torch.zeros(1), qn, qp, 0.25)

    torch.testing.assert_close(ours, theirs)
    for our_grad, their_grad in zip(
        torch.autograd.grad(ours, (x, step), upstream), torch.autograd.grad(theirs, (x, step), upstream), strict=True
    ):
        torch.testing.assert_close(our_grad, their_grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step_shape", SHAPES)
@pytest.mark.parametrize(("num_bits", "signed", "narrow"), GRIDS)
def test_result_is_on_the_grid_near_its_value_and_stays_there(num_bits: int, signed: bool, narrow: bool, step_shape):
    x, step = (t.float() for t in example(step_shape, num_bits, signed, narrow))
    grid = {"num_bits": num_bits, "signed": signed, "narrow_range": narrow}
    qn, qp = bounds(num_bits, signed, narrow)

    once = fake_quantize(x, step, **grid)
    codes = quantize_to_int(x, step, **grid)

    assert codes.dtype == torch.int32
    assert qn <= int(codes.min()) <= int(codes.max()) <= qp
    assert torch.equal(dequantize(codes, step), once)
    assert torch.equal(fake_quantize(once, step, **grid), once)
    inside = (x / step >= qn) & (x / step <= qp)
    error = ((x - once).abs() / step)[inside]
    assert float(error.max()) <= 0.5 + 1e-4


def test_ties_round_to_even():
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    expected = torch.tensor([-2.0, -2.0, 0.0, 0.0, 2.0, 2.0])
    assert torch.equal(fake_quantize(x, torch.tensor([1.0]), num_bits=4, signed=True), expected)


@pytest.mark.parametrize("step", [(1,), (2, 1)], ids=["dot-products", "elements"])
def test_the_gradient_of_x_passes_strictly_inside_the_range(step):
    x = torch.tensor([[-7.999, 6.999, 0.0], [-8.0, 7.0, -8.001]], requires_grad=True)
    fake_quantize(x, torch.ones(step), num_bits=4, signed=True).sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(("num_bits", "signed", "narrow"), GRIDS)
def test_both_ways_to_the_gradients_agree_in_float32(num_bits: int, signed: bool, narrow: bool):
    x, step = (t.float() for t in example((1,), num_bits, signed, narrow))
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    grid = {"num_bits": num_bits, "signed": signed, "narrow_range": narrow, "grad_scale": 1.0}
    found = []
    for channels in (1, 6):  # one step size a channel, all equal, whose gradients add up to that of one for all
        a, s = x.clone().requires_grad_(), step.expand(channels, 1, 1, 1).clone().requires_grad_()
        fake_quantize(a, s if channels > 1 else s.reshape(1), **grid).backward(upstream)
        found.append((a.grad, s.grad.sum()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=0)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("step_shape", SHAPES)
def test_beyond_the_range_the_gradients_are_true_derivatives(step_shape):
    # Inside, rounding has no useful derivative; beyond, the output is a bound times the step size.
    x, step = example(step_shape, 3, True, False)
    x = torch.where(x.abs() / step > 5, x, 9 * step).requires_grad_()
    step.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *args: fake_quantize(*args, num_bits=3, signed=True, grad_scale=1.0), (x, step)
    )


def test_memory_layouts_do_not_matter():
    x, step = example((1,), 4, True, False)
    upstream = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        a, s = x.clone(memory_format=layout).requires_grad_(), step.clone().requires_grad_()
        fake_quantize(a, s, num_bits=4, signed=True).backward(upstream)
        found.append((a.grad, s.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_step_size_is_summed_in_float32(dtype: torch.dtype):
    x, step = (t.float() for t in example((1,), 4, True, False))
    x = x.to(dtype).float()
    reference = [x.clone().requires_grad_(), step.clone().requires_grad_()]
    fake_quantize(*reference, num_bits=4, signed=True).sum().backward()
    low = [x.to(dtype).requires_grad_(), step.clone().requires_grad_()]
    with torch.autocast("cpu", dtype=dtype):
        y = fake_quantize(*low, num_bits=4, signed=True)
    y.float().sum().backward()
    assert y.dtype == dtype
    torch.testing.assert_close(low[1].grad, reference[1].grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_input_keeps_its_dtype_and_the_step_size_its_own(dtype: torch.dtype):
    x = torch.linspace(-1, 1, 64, dtype=dtype, requires_grad=True)
    step = torch.tensor([0.125], requires_grad=True)
    y = fake_quantize(x, step, num_bits=4, signed=True)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    assert step.grad.dtype == torch.float32


def test_gradients_are_computed_only_where_they_are_wanted():
    x, step = torch.ones(3, requires_grad=True), torch.tensor([0.5])
    fake_quantize(x, step, num_bits=4, signed=True).sum().backward()
    assert x.grad is not None
    assert step.grad is None
    x, step = torch.ones(3), torch.tensor([0.5], requires_grad=True)
    fake_quantize(x, step, num_bits=4, signed=True).sum().backward()
    assert x.grad is None
    assert step.grad is not None


@pytest.mark.parametrize(
    ("device", "step_shape", "dtype", "is_kept"),
    [
        pytest.param("cpu", (1,), torch.float32, True, id="per-tensor"),
        pytest.param("cpu", (6, 1), torch.float32, False, id="per-channel"),
        pytest.param("cpu", (1,), torch.bfloat16, False, id="bfloat16"),
        pytest.param("meta", (1,), torch.float32, False, id="another-device"),
    ],
)
def test_the_output_is_kept_only_where_the_gradients_need_it(device, step_shape, dtype, is_kept):
    x = torch.ones(6, 5, dtype=dtype, device=device, requires_grad=True)
    step = torch.ones(step_shape, device=device, requires_grad=True)
    output = fake_quantize(x, step, num_bits=4, signed=True)
    function = output.grad_fn if dtype is torch.float32 else output.grad_fn.next_functions[0][0]
    assert (function.output is not None) is is_kept
    output.sum().backward()
    assert function.output is None
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("function", [fake_quantize, quantize_to_int])
def test_unsupported_bits_are_refused(function):
    with pytest.raises(InvalidBitWidthError):
        function(torch.ones(3), torch.ones(1), num_bits=9, signed=True)
