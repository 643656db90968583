"""
LSQ: fake quantization with a learnable step size.

Esser et al., "Learned Step Size Quantization", ICLR 2020, arXiv:1902.08153.
"""

import torch
from torch import Tensor

from llt_nncf.functional.integer_range import integer_range


class _LsqFunction(torch.autograd.Function):
    """Forward is Eq. 1-2 of LSQ; backward is Eq. 3 (step size) and the straight-through estimator (input)."""

    @staticmethod
    def forward(ctx, x: Tensor, step_size: Tensor, qmin: int, qmax: int, grad_scale: float) -> Tensor:
        ctx.save_for_backward(x, step_size)
        ctx.bounds = (qmin, qmax, grad_scale)
        return torch.clamp(torch.round(x / step_size), qmin, qmax) * step_size

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        x, step_size = ctx.saved_tensors
        qmin, qmax, grad_scale = ctx.bounds
        grad_x = grad_step = None
        scaled = x / step_size
        inside = (scaled >= qmin) & (scaled <= qmax)
        if ctx.needs_input_grad[0]:
            grad_x = grad_output * inside
        if ctx.needs_input_grad[1]:
            # d(out)/d(step) = round(v) - v inside the range, and the nearer bound outside it (v = x / step).
            codes = torch.clamp(torch.round(scaled), qmin, qmax)
            slope = codes - torch.where(inside, scaled, torch.zeros_like(scaled))
            # In float32 (or better) also under autocast: a per-tensor step size sums millions of terms.
            total = (grad_output * slope).to(step_size.dtype)
            grad_step = total.sum_to_size(step_size.shape) * grad_scale
        return grad_x, grad_step, None, None, None


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

    Ties round to even, as in ONNX. The gradient of the step size is multiplied by ``grad_scale``; LSQ takes
    ``1 / sqrt(n * qmax)`` (Sec. 2.2), the default here, with ``n`` the number of elements that share one step size, the
    batch included, as the LIMPQ authors' code counts them.

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
        grad_scale = float((max(x.numel(), 1) / step_size.numel() * qmax) ** -0.5)
    return _LsqFunction.apply(x, step_size, qmin, qmax, grad_scale).to(x.dtype)
