"""Real to integer and back, for freezing and export."""

import torch
from torch import Tensor

from llt_nncf.functional.integer_range import integer_range


def quantize_to_int(x: Tensor, step_size: Tensor, *, num_bits: int, signed: bool, narrow_range: bool = False) -> Tensor:
    """
    Returns the integer codes of ``x``.

    :param x: Real values, any shape.
    :param step_size: Positive, broadcastable to ``x``.
    :param num_bits: Bit-width, 2 to 8.
    :param signed: Whether the codes are centred on zero.
    :param narrow_range: Leaves out the lowest signed code.
    :return: int32 codes inside the range, same shape as ``x``.
    :raises InvalidBitWidthError: If ``num_bits`` is outside 2..8.
    """
    qmin, qmax = integer_range(num_bits, signed=signed, narrow_range=narrow_range)
    return torch.clamp(torch.round(x / step_size), qmin, qmax).to(torch.int32)


def dequantize(codes: Tensor, step_size: Tensor) -> Tensor:
    """
    Returns ``codes`` in real units.

    :param codes: Integer codes, any shape.
    :param step_size: Positive, broadcastable to ``codes``.
    :return: ``codes * step_size`` in the dtype of ``step_size``.
    """
    return codes.to(step_size.dtype) * step_size
