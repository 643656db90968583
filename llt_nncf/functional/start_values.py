"""Start values of the step sizes, from statistics of the tensor."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from llt_nncf.functional.integer_range import integer_range

# A tensor that is zero everywhere (a dead channel) still needs a positive step size.
SMALLEST_STEP_SIZE = 1e-6

# Values per step size that the search for the least squared error looks at; more change it by less than a percent.
_MSE_SAMPLE = 2**18
# The search in octaves: below the covering step size, around the best of those, and around the best of these. At 6 to 8
# bits the error is rugged: steps of 2 % miss its minimum by up to 5 %, the ones here by 0.1 %.
_SEARCH_OCTAVES = (
    tuple(-k / 4 for k in range(48)),
    tuple(k / 64 for k in range(-16, 17)),
    tuple(k / 512 for k in range(-8, 9)),
)


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


def mse_step_size(x: Tensor, *, num_bits: int, signed: bool, scale_shape: Sequence[int] = (1,)) -> Tensor:
    """
    The step size with the least mean squared rounding error.

    Found within 1 % of the least error, by trying fractions of the step size that covers all values. Of more than
    2**18 values per step size an even sample of that many is looked at.

    :param x: The tensor, of a shape that ``scale_shape`` broadcasts to; without NaN and infinity.
    :param num_bits: Bit-width, 2 to 8.
    :param signed: Whether the codes are centred on zero.
    :param scale_shape: ``(1,)`` for one step size, or one per channel.
    :return: Step sizes of shape ``scale_shape``, float32, at least 1e-6.
    :raises InvalidBitWidthError: If ``num_bits`` is outside 2..8.
    """
    rows = rows_per_step_size(x.detach(), scale_shape)
    low, high = torch.aminmax(rows, dim=1, keepdim=True)
    best = min_max_step_size(low, high, num_bits=num_bits, signed=signed).double()
    errors = _SquaredErrors(even_sample(rows, _MSE_SAMPLE), num_bits=num_bits, signed=signed)
    for octaves in _SEARCH_OCTAVES:
        tried = torch.stack([errors(best * 2.0**octave) for octave in octaves])
        best = best * torch.exp2(best.new_tensor(octaves)[tried.argmin(dim=0)])
    return best.clamp(min=SMALLEST_STEP_SIZE).float().reshape(tuple(scale_shape))


class _SquaredErrors:
    """
    The summed squared rounding error of each row, as a function of its step size.

    A value ``x`` rounds to ``step * (qmin + j)`` with ``j`` the number of decision boundaries below it. So the sum of
    ``(x - q)**2`` follows from how many values lie above each boundary and what they sum to: both are looked up in the
    sorted rows, at a cost that depends on the number of codes and hardly on the number of values.

    :param rows: Shape ``(step sizes, values)``.
    """

    def __init__(self, rows: Tensor, *, num_bits: int, signed: bool):
        self._sorted = rows.sort(dim=1).values.double()
        self._sums = torch.nn.functional.pad(self._sorted.cumsum(dim=1), (1, 0))
        self._squares = self._sorted.square().sum(dim=1, keepdim=True)
        self._qmin, qmax = integer_range(num_bits, signed=signed)
        # The boundaries in steps: boundary j lies between the codes qmin + j and qmin + j + 1.
        self._boundaries = torch.arange(self._qmin, qmax, device=rows.device, dtype=torch.float64) + 0.5

    def __call__(self, step_size: Tensor) -> Tensor:
        """Returns the errors for step sizes of shape ``(step sizes, 1)``, in the same shape."""
        below = torch.searchsorted(self._sorted, step_size * self._boundaries)
        total = self._sums[:, -1:]
        count_above = self._sorted.shape[1] - below
        sum_above = total - self._sums.gather(1, below)
        # From one code to the next q grows by one step, and q**2 by 2 * boundary * step**2.
        lowest = self._qmin * step_size
        growth = 2 * step_size * (step_size * self._boundaries * count_above - sum_above).sum(dim=1, keepdim=True)
        return self._squares + self._sorted.shape[1] * lowest**2 - 2 * lowest * total + growth


def rows_per_step_size(x: Tensor, scale_shape: Sequence[int]) -> Tensor:
    """
    Returns the elements of ``x`` with one row for each step size, in the order of the flattened step sizes.

    :param x: Any tensor.
    :param scale_shape: ``(1,)``, or of as many dimensions as ``x``, each 1 or that of ``x``.
    :return: Shape ``(step sizes, elements)``; a view where that is possible.
    """
    count = math.prod(scale_shape)
    kept = [dim for dim, size in enumerate(scale_shape) if size > 1]
    return x.permute(*kept, *(dim for dim in range(x.dim()) if dim not in kept)).reshape(count, -1)


def even_sample(rows: Tensor, count: int) -> Tensor:
    """
    Returns ``count`` columns, or all if there are no more; the same ones for every tensor of the same width.

    They are spread by the golden ratio, which no size of a dimension is a multiple of: at regular distances a sample
    could consist of one column of every image.

    :param rows: Shape ``(step sizes, elements)``.
    :param count: At most this many columns are returned.
    """
    if rows.shape[1] <= count:
        return rows
    golden = (math.sqrt(5) - 1) / 2
    places = torch.arange(count, device=rows.device, dtype=torch.float64).mul_(golden).frac_().mul_(rows.shape[1])
    return rows[:, places.long()]
