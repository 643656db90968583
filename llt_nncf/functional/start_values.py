"""Start values of the step sizes, from statistics of the tensor."""

import torch
from torch import Tensor

from llt_nncf.functional.integer_range import integer_range

# A tensor that is zero everywhere (a dead channel) still needs a positive step size.
SMALLEST_STEP_SIZE = 1e-6


def lsq_step_size(mean_abs: Tensor, *, num_bits: int, signed: bool) -> Tensor:
    """
    LSQ's start value ``2 * mean(|x|) / sqrt(qmax)`` (Esser et al., ICLR 2020, Sec. 2.1).

    :param mean_abs: Mean absolute value of the tensor, one per step size.
    :param num_bits: Bit-width, 2 to 8.
    :param signed: Whether the codes are centred on zero.
    :return: Step sizes of the shape of ``mean_abs``, at least 1e-6.
    :raises InvalidBitWidthError: If ``num_bits`` is outside 2..8.
    """
    _, qmax = integer_range(num_bits, signed=signed)
    return torch.clamp(2.0 * mean_abs / qmax**0.5, min=SMALLEST_STEP_SIZE)


def min_max_step_size(low: Tensor, high: Tensor, *, num_bits: int, signed: bool) -> Tensor:
    """
    The step size whose grid just covers ``low`` to ``high``.

    :param low: Smallest value, one per step size.
    :param high: Largest value, of the same shape.
    :param num_bits: Bit-width, 2 to 8.
    :param signed: Whether the codes are centred on zero; if not, ``low`` is not looked at.
    :return: Step sizes of the shape of ``high``, at least 1e-6.
    :raises InvalidBitWidthError: If ``num_bits`` is outside 2..8.
    """
    _, qmax = integer_range(num_bits, signed=signed)
    reach = torch.maximum(low.abs(), high.abs()) if signed else high
    return torch.clamp(reach / qmax, min=SMALLEST_STEP_SIZE)
