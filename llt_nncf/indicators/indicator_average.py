"""Exponential moving averages of the step sizes, to read steadier indicators from."""

import torch
from torch import Tensor

from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.quantizers import SwitchableQuantizer


class IndicatorAverage:
    """
    Averages every step size over the optimizer steps, starting from where it is now.

    :param quantizers: The quantizers.
    :param decay: Share of the old average that is kept at each step, 0 to below 1; 0 is no averaging.
    """

    def __init__(self, quantizers: QuantizerSet, decay: float):
        self._decay = decay
        self.step_sizes: dict[SwitchableQuantizer, Tensor] = {q: q.magnitudes().clone() for q in quantizers.all()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the step sizes as they are now."""
        for quantizer, average in self.step_sizes.items():
            average.lerp_(quantizer.magnitudes(), 1.0 - self._decay)

    def state(self) -> list[Tensor]:
        """Returns the averages in the order of the quantizers."""
        return list(self.step_sizes.values())

    def load_state(self, state: list[Tensor]) -> None:
        """Takes over what ``state`` returned."""
        for average, saved in zip(self.step_sizes.values(), state, strict=True):
            average.copy_(saved)
