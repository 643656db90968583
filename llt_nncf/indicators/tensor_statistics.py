"""What the quantizers of a float model see: ranges, magnitudes, deviations and samples of weights and activations."""

import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch import nn

from llt_nncf.errors import InvalidTensorError
from llt_nncf.functional import even_sample
from llt_nncf.functional import rows_per_step_size
from llt_nncf.functional import training_mode
from llt_nncf.indicators.open_quantizers import open_quantizers
from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.quantizers import SwitchableQuantizer

_SAMPLE = 2**16
# Elements looked at in one go: few enough to stay in the cache between the passes, and for exact sums in float32.
_PART = 2**19


class TensorStatistics:
    """
    Running statistics of all tensors that one quantizer is given.

    :param scale_shape: Shape of the quantizer's step size: range and magnitude are kept for each.
    """

    def __init__(self, scale_shape: Sequence[int]):
        self._scale_shape = tuple(scale_shape)
        self._columns = 0
        self._samples = 0
        self._low = self._high = self._total_abs = self._total = self._total_squares = self._shift = torch.empty(0)
        self._kept: list[Tensor] = []
        self._kept_of_each = _SAMPLE

    @property
    def is_empty(self) -> bool:
        """Whether no tensor was seen."""
        return not self._columns

    @property
    def is_finite(self) -> bool:
        """Whether no NaN and no infinity was seen."""
        return bool((torch.isfinite(self._low) & torch.isfinite(self._high)).all())

    @property
    def low(self) -> Tensor:
        """Smallest value for each step size."""
        return self._low.reshape(self._scale_shape)

    @property
    def high(self) -> Tensor:
        """Largest value for each step size."""
        return self._high.reshape(self._scale_shape)

    @property
    def mean_abs(self) -> Tensor:
        """Mean absolute value for each step size, float32."""
        return (self._total_abs / self._columns).float().reshape(self._scale_shape)

    @property
    def std(self) -> float:
        """Standard deviation over all elements."""
        if bool(self._low.min() == self._high.max()):
            return 0.0
        return math.sqrt(max(float(self._total_squares / self.count - (self._total / self.count) ** 2), 0.0))

    @property
    def count(self) -> int:
        """Number of elements of all tensors together."""
        return self._columns * math.prod(self._scale_shape)

    @property
    def count_per_sample(self) -> float:
        """Number of elements in one sample of a batch; the first dimension of the tensors counts the samples."""
        return self.count / self._samples

    @property
    def sample(self) -> Tensor:
        """Some of the values, at most 2**16 for each step size, evenly from all tensors; one row per step size."""
        return torch.cat(self._kept, dim=1)

    def add(self, x: Tensor) -> None:
        """
        Takes one tensor into account.

        :param x: Of a shape that ``scale_shape`` broadcasts to; without elements it counts for nothing.
        """
        if x.numel() == 0:
            return
        rows = rows_per_step_size(x.detach(), self._scale_shape)
        if self.is_empty:
            self._low = self._high = rows[:, 0].float()
            self._total_abs = torch.zeros_like(self._low, dtype=torch.float64)
            self._total = self._total_squares = self._total_abs.new_zeros(())
            # About the mean: a sum of squares of values that all lie far from zero would lose their deviation.
            self._shift = rows[:, :_PART].float().mean()
        for part in rows.split(max(1, _PART // len(rows)), dim=1):
            self._add_part(part.float())
        self._columns += rows.shape[1]
        self._samples += x.shape[0]
        self._kept.append(even_sample(rows, self._kept_of_each).clone())  # the model may go on in place
        if len(self._kept) * self._kept_of_each > _SAMPLE:
            self._kept_of_each = max(self._kept_of_each // 2, 1)
            self._kept = [even_sample(kept, self._kept_of_each) for kept in self._kept]

    def _add_part(self, part: Tensor) -> None:
        if len(part) == 1:
            low, high = (bound.reshape(1) for bound in torch.aminmax(part))  # without `dim` in several threads
        else:
            low, high = torch.aminmax(part, dim=1)
        self._low, self._high = torch.minimum(self._low, low), torch.maximum(self._high, high)
        self._total_abs = self._total_abs + part.abs().sum(dim=1)
        shifted = (part - self._shift).reshape(-1)
        self._total = self._total + shifted.sum()
        self._total_squares = self._total_squares + torch.dot(shifted, shifted)


@torch.no_grad()
def observe_tensors(
    model: nn.Module,
    quantizers: QuantizerSet,
    batches: Iterable[Any],
    forward: Callable[[nn.Module, Any], object],
) -> dict[SwitchableQuantizer, TensorStatistics]:
    """
    Runs the model over the batches with all quantizers open, in evaluation mode.

    :param model: The model with the quantizers; its training mode is restored.
    :param quantizers: The quantizers.
    :param batches: A few batches.
    :param forward: Called with the model and each batch.
    :return: Statistics of every quantizer that a batch reaches; weights are looked at once.
    :raises InvalidTensorError: If a quantizer sees NaN or infinity; it is named.
    """
    statistics = {quantizer: TensorStatistics(quantizer.scale_shape) for quantizer in quantizers.all()}

    def observe(quantizer: SwitchableQuantizer, x: Tensor) -> None:
        if statistics[quantizer].is_empty or not quantizer.is_weight:
            statistics[quantizer].add(x)

    with training_mode(model, False), open_quantizers(quantizers, observe):
        for batch in batches:
            forward(model, batch)
    for name, quantizer in [*quantizers.weights.items(), *quantizers.activations.items()]:
        if not statistics[quantizer].is_finite:
            msg = f"{name!r} sees NaN or infinity in the registered data: check the data and the model's weights."
            raise InvalidTensorError(msg)
    return {quantizer: found for quantizer, found in statistics.items() if not found.is_empty}
