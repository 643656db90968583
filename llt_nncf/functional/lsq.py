"""
LSQ: fake quantization with a learnable step size.

Esser et al., "Learned Step Size Quantization", ICLR 2020, arXiv:1902.08153.
"""

import torch
from torch import Tensor

from llt_nncf.functional.integer_range import integer_range


class _LsqFunction(torch.autograd.Function):
    """
    Forward is Eq. 1-2 of LSQ; backward is Eq. 3 (step size) and Eq. 5 (input).

    The input is kept for the backward pass, and on a CPU the output: the layers in front and behind mostly keep them
    anyway. An output that was changed in place meanwhile (a residual ``+=``), or let go by an earlier backward pass, is
    computed again. ``qmin`` and ``qmax`` are numbers, or tensors of no dimension in a compiled graph that serves all
    bit-widths.
    """

    @staticmethod
    def forward(ctx, x: Tensor, step_size: Tensor, qmin, qmax, grad_scale) -> Tensor:
        ctx.save_for_backward(x, step_size)
        ctx.bounds = (qmin, qmax, grad_scale)
        output = _round_to_grid(x, step_size, qmin, qmax)
        # A scalar of the step size would make a GPU wait and a compiler give up; sums in half precision lose too much.
        one_scalar = step_size.numel() == 1 and x.device.type == "cpu" and not torch.compiler.is_compiling()
        ctx.by_dot_products = one_scalar and x.dtype == step_size.dtype and x.dtype in (torch.float32, torch.float64)
        # An alias: it shares memory and version with the output, and autograd does not refuse a changed one. Nor does
        # it free one, so what does not need it must not keep it.
        ctx.output = (output.detach(), output._version) if ctx.by_dot_products else None
        return output

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        x, step_size = ctx.saved_tensors
        qmin, qmax, grad_scale = ctx.bounds
        if ctx.by_dot_products:
            rounded, version = ctx.output or (None, None)
            ctx.output = None  # the graph may live on, and its memory is what the next gradients need
            if rounded is None or rounded._version != version:
                rounded = _round_to_grid(x, step_size, qmin, qmax)
            gradients = _gradients_by_dot_products(grad_output, x, rounded, step_size.item(), qmin, qmax)
        else:
            gradients = _gradients_by_elements(grad_output, x, step_size, qmin, qmax)
        return gradients[0], (gradients[1] * grad_scale).reshape(step_size.shape), None, None, None


def _round_to_grid(x: Tensor, step_size: Tensor, qmin, qmax) -> Tensor:
    # In place on the one new tensor: four times as fast on a CPU as the same chain with a new tensor for each result.
    return (x / step_size).round_().clamp_(qmin, qmax).mul_(step_size)


def _gradients_by_dot_products(
    grad_output: Tensor, x: Tensor, rounded: Tensor, step: float, qmin: int, qmax: int
) -> tuple[Tensor, Tensor]:
    """
    d(out)/d(step) is ``(rounded - x) / step`` inside the range and ``rounded / step`` outside it, so that the sum over
    all elements is ``(<grad, rounded> - <grad_x, x>) / step``.
    """
    grad_x = torch.ops.aten.hardtanh_backward(grad_output, x, qmin * step, qmax * step)
    return grad_x, (_dot(grad_output, rounded) - _dot(grad_x, x)) / step


def _dot(a: Tensor, b: Tensor) -> Tensor:
    # In the order of memory, which is another one than that of the dimensions where the channels are last: no copies.
    order = sorted(range(a.dim()), key=a.stride, reverse=True)
    return torch.dot(a.permute(order).reshape(-1), b.permute(order).reshape(-1))


def _gradients_by_elements(grad_output: Tensor, x: Tensor, step_size: Tensor, qmin, qmax) -> tuple[Tensor, Tensor]:
    """d(out)/d(step) is ``round(v) - v`` inside the range, and the nearer bound outside it, with ``v = x / step``."""
    scaled = x / step_size
    inside = (scaled > qmin) & (scaled < qmax)
    slope = scaled.round().clamp_(qmin, qmax).sub_(scaled.masked_fill_(~inside, 0.0))
    # In float32 (or better) also under autocast: a per-tensor step size sums millions of terms.
    return grad_output * inside, (grad_output * slope).to(step_size.dtype).sum_to_size(step_size.shape)


def fake_quantize(
    x: Tensor,
    step_size: Tensor,
    *,
    num_bits: int,
    signed: bool,
    narrow_range: bool = False,
    grad_scale: float | None = None,
) -> Tensor:
    """
    Rounds ``x`` to the nearest point of the quantization grid and returns it in real units.

    Ties round to even, as in ONNX. The input's gradient passes strictly inside the range. The gradient of the step size
    is multiplied by ``grad_scale``; LSQ takes ``1 / sqrt(n * qmax)`` (Sec. 2.2), with ``n`` the number of weights, or
    of features in one sample, that share a step size. The default here takes all elements of ``x``.

    :param x: Real values of a floating dtype, shape ``(C, *)`` for weights or ``(N, C, *)`` for activations.
    :param step_size: Positive, in the units of ``x``, of a shape that broadcasts to that of ``x``.
    :param num_bits: Bit-width, 2 to 8.
    :param signed: Whether the codes are centred on zero.
    :param narrow_range: Leaves out the lowest signed code.
    :param grad_scale: Factor on the gradient of ``step_size``; ``1.0`` gives the plain derivative.
    :return: Same shape, dtype and device as ``x``. Gradients reach ``x`` and ``step_size``.
    :raises InvalidBitWidthError: If ``num_bits`` is outside 2..8.
    """
    qmin, qmax = integer_range(num_bits, signed=signed, narrow_range=narrow_range)
    if grad_scale is None:
        grad_scale = (max(x.numel(), 1) / step_size.numel() * qmax) ** -0.5
    return _LsqFunction.apply(x, step_size, qmin, qmax, grad_scale).to(x.dtype)


def fake_quantize_by_tensors(x: Tensor, step_size: Tensor, qmin: Tensor, qmax: Tensor, grad_scale: Tensor) -> Tensor:
    """
    ``fake_quantize`` with a bit-width that is data, for ``torch.compile``: one graph serves all of them.

    :param x: As in ``fake_quantize``, like ``step_size``.
    :param qmin: Lowest code, no dimension, like the next two.
    :param qmax: Highest code.
    :param grad_scale: Factor on the gradient of ``step_size``.
    :return: Same shape, dtype and device as ``x``. Gradients reach ``x`` and ``step_size``.
    """
    return _LsqFunction.apply(x, step_size, qmin, qmax, grad_scale).to(x.dtype)
