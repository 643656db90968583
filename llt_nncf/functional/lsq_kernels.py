"""
LSQ on a GPU in two Triton kernels, one for each direction, which touch every tensor once.

As a chain of PyTorch's operations the forward pass alone reads and writes as many elements four times.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 2048


@triton.jit
def _scaled_and_code(x, step_size, qmin, qmax):
    scaled = tl.div_rn(x.to(tl.float32), step_size)  # as PyTorch divides; `/` may be an ulp away
    clipped = tl.clamp(scaled, qmin, qmax, propagate_nan=tl.PropagateNan.ALL)
    # To the nearest, ties to even: 1.5 * 2**23 leaves no bits for a fraction.
    return scaled, (clipped + 12582912.0) - 12582912.0


@triton.jit
def _forward(x_ptr, step_ptr, output_ptr, count, qmin, qmax, block: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    step_size = tl.load(step_ptr)
    _, code = _scaled_and_code(tl.load(x_ptr + at, at < count), step_size, qmin, qmax)
    tl.store(output_ptr + at, (code * step_size).to(output_ptr.dtype.element_ty), at < count)


@triton.jit
def _backward(grad_ptr, x_ptr, step_ptr, grad_x_ptr, sums_ptr, count, qmin, qmax, grad_scale, block: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    scaled, code = _scaled_and_code(tl.load(x_ptr + at, at < count), tl.load(step_ptr), qmin, qmax)
    grad = tl.load(grad_ptr + at, at < count, other=0.0)
    inside = (scaled > qmin) & (scaled < qmax)
    tl.store(grad_x_ptr + at, tl.where(inside, grad, 0.0).to(grad_x_ptr.dtype.element_ty), at < count)
    slope = code - tl.where(inside, scaled, 0.0)
    terms = tl.where(at < count, grad.to(tl.float32) * slope, 0.0)
    tl.store(sums_ptr + tl.program_id(0), tl.sum(terms) * grad_scale)


def fits(x: Tensor, step_size: Tensor) -> bool:
    """Whether the kernels compute this: one step size in float32, and values of a dtype that float32 holds."""
    return (
        x.numel() > 0
        and step_size.numel() == 1
        and step_size.dtype is torch.float32
        and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
    )


def round_to_grid(x: Tensor, step_size: Tensor, qmin: int, qmax: int) -> Tensor:
    """Returns the nearest points of the grid, of shape, dtype and order of memory of ``x``."""
    x = _dense(x)
    output = torch.empty_like(x)
    with torch.cuda.device_of(x):
        _forward[_grid(x)](x, step_size, output, x.numel(), float(qmin), float(qmax), block=_BLOCK)
    return output


def gradients(
    grad_output: Tensor, x: Tensor, step_size: Tensor, qmin: int, qmax: int, grad_scale: float
) -> tuple[Tensor, Tensor]:
    """Returns those of ``x`` and of the step size; the latter, times ``grad_scale``, has no dimension."""
    x = _dense(x)
    if grad_output.stride() != x.stride():
        grad_output = torch.empty_like(x, dtype=grad_output.dtype).copy_(grad_output)
    grad_x = torch.empty_like(grad_output)
    grid = _grid(x)
    sums = x.new_empty(grid, dtype=torch.float32)
    with torch.cuda.device_of(x):
        _backward[grid](
            grad_output, x, step_size, grad_x, sums, x.numel(), float(qmin), float(qmax), grad_scale, block=_BLOCK
        )
    return grad_x, sums.sum()


def _grid(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x.numel(), _BLOCK),)


def _dense(x: Tensor) -> Tensor:
    """The values without gaps, in an order of memory that ``empty_like`` keeps."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return x if last or x.is_contiguous() else x.contiguous()
