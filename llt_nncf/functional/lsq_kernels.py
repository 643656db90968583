"""
LSQ on a GPU in Triton kernels: one for the forward pass, two for the way back.

PyTorch's operations are some two dozen kernels for the same, and starting them takes longer than they run: all but the
largest layers wait for it.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 2048
_SUMS = 1024
_MOST_CANDIDATES = 8


@triton.jit
def _scaled_and_code(x, step_size, qmin, qmax):
    scaled = tl.div_rn(x.to(tl.float32), step_size)  # as PyTorch divides; `/` may be an ulp away
    clipped = tl.clamp(scaled, qmin, qmax, propagate_nan=tl.PropagateNan.ALL)
    # To the nearest, ties to even: 1.5 * 2**23 leaves no bits for a fraction.
    return scaled, (clipped + 12582912.0) - 12582912.0


@triton.jit(do_not_specialize=["index"])
def _forward(x_ptr, raw_ptr, output_ptr, index, count, floor, qmin, qmax, block: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    step_size = tl.abs(tl.load(raw_ptr + index)) + floor
    _, code = _scaled_and_code(tl.load(x_ptr + at, at < count), step_size, qmin, qmax)
    tl.store(output_ptr + at, (code * step_size).to(output_ptr.dtype.element_ty), at < count)


@triton.jit(do_not_specialize=["index"])
def _backward(grad_ptr, x_ptr, raw_ptr, grad_x_ptr, sums_ptr, index, count, floor, qmin, qmax, block: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    step_size = tl.abs(tl.load(raw_ptr + index)) + floor
    scaled, code = _scaled_and_code(tl.load(x_ptr + at, at < count), step_size, qmin, qmax)
    grad = tl.load(grad_ptr + at, at < count, other=0.0)
    inside = (scaled > qmin) & (scaled < qmax)
    tl.store(grad_x_ptr + at, tl.where(inside, grad, 0.0).to(grad_x_ptr.dtype.element_ty), at < count)
    slope = code - tl.where(inside, scaled, 0.0)
    tl.store(sums_ptr + tl.program_id(0), tl.sum(tl.where(at < count, grad.to(tl.float32) * slope, 0.0)))


@triton.jit(do_not_specialize=["index", "size"])
def _add_up(sums_ptr, raw_ptr, grad_raw_ptr, index, size, count, factor, block: tl.constexpr, most: tl.constexpr):
    total = tl.zeros((block,), tl.float32)
    for start in range(0, count, block):
        at = start + tl.arange(0, block)
        total += tl.load(sums_ptr + at, at < count, other=0.0)
    candidate = tl.arange(0, most)
    raw = tl.load(raw_ptr + candidate, candidate < size, other=0.0)
    sign = tl.where(raw > 0, 1.0, 0.0) - tl.where(raw < 0, 1.0, 0.0)
    grad_raw = tl.where(candidate == index, tl.sum(total) * factor * sign, 0.0)
    tl.store(grad_raw_ptr + candidate, grad_raw, candidate < size)


class KernelLsq(torch.autograd.Function):
    """
    Fake quantization with one of several step sizes, ``|raw_step_sizes[index]| + floor``.

    Called with ``(x, raw_step_sizes, index, floor, qmin, qmax, grad_scale)``; see ``fits`` for what it takes.
    """

    @staticmethod
    def forward(ctx, x: Tensor, raw_step_sizes: Tensor, index: int, floor: float, qmin: int, qmax: int, grad_scale):
        ctx.save_for_backward(x, raw_step_sizes)
        ctx.grid = (floor, float(qmin), float(qmax))
        ctx.index, ctx.grad_scale = index, grad_scale
        x = _dense(x)
        output = torch.empty_like(x)
        with torch.cuda.device_of(x):
            _forward[_programs(x)](x, raw_step_sizes, output, index, x.numel(), *ctx.grid, block=_BLOCK)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):
        x, raw_step_sizes = ctx.saved_tensors
        x = _dense(x)
        if grad_output.stride() != x.stride():
            grad_output = torch.empty_like(x, dtype=grad_output.dtype).copy_(grad_output)
        grad_x = torch.empty_like(grad_output)
        grad_raw = torch.empty_like(raw_step_sizes)
        sums = torch.empty(_programs(x), dtype=torch.float32, device=x.device)
        with torch.cuda.device_of(x):
            tensors = (grad_output, x, raw_step_sizes, grad_x, sums)
            _backward[sums.shape](*tensors, ctx.index, x.numel(), *ctx.grid, block=_BLOCK)
            sizes = (ctx.index, len(raw_step_sizes), len(sums))
            _add_up[(1,)](sums, raw_step_sizes, grad_raw, *sizes, ctx.grad_scale, block=_SUMS, most=_MOST_CANDIDATES)
        return grad_x, grad_raw, None, None, None, None, None


def fits(x: Tensor, raw_step_sizes: Tensor) -> bool:
    """Whether the kernels take this: up to eight step sizes in float32, each of a whole tensor."""
    return (
        x.numel() > 0
        and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and raw_step_sizes.dtype is torch.float32
        and raw_step_sizes.dim() > 0
        and raw_step_sizes.numel() == len(raw_step_sizes) <= _MOST_CANDIDATES
    )


def _programs(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x.numel(), _BLOCK),)


def _dense(x: Tensor) -> Tensor:
    """The values without gaps, in an order of memory that ``empty_like`` keeps."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return x if last or x.is_contiguous() else x.contiguous()
