"""Learning rates and weight decay of the step sizes, apart from those of the weights."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch import nn

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.indicators.quantizer_set import QuantizerSet


def parameter_groups(
    parameters: list[nn.Parameter],
    quantizers: QuantizerSet,
    *,
    learning_rate: float,
    weight_decay: float,
    step_size_learning_rate: float | None,
    step_size_weight_decay: float | None,
) -> list[dict]:
    """
    Returns an optimizer's parameter groups, weights first and then step sizes; each keeps its start in ``initial_lr``.

    :param parameters: All that is trained.
    :param quantizers: Whose step sizes are told apart.
    :param learning_rate: Of the weights.
    :param weight_decay: Of the weights.
    :param step_size_learning_rate: Of the step sizes; ``None`` for that of the weights.
    :param step_size_weight_decay: Of the step sizes; ``None`` for that of the weights.
    """
    own = {id(quantizer.raw_step_sizes) for quantizer in quantizers.all()}
    step_size_rate = learning_rate if step_size_learning_rate is None else step_size_learning_rate
    step_size_decay = weight_decay if step_size_weight_decay is None else step_size_weight_decay
    kinds = [(False, learning_rate, weight_decay), (True, step_size_rate, step_size_decay)]
    return [
        {
            "params": [p for p in parameters if (id(p) in own) == is_step_size],
            "lr": rate,
            "initial_lr": rate,
            "weight_decay": decay,
        }
        for is_step_size, rate, decay in kinds
    ]


class BitRates:
    """
    Learning rates per bit-width, as factors.

    The step sizes of a quantizer are one parameter, so an optimizer has one rate for them; here the change that it made
    to each is multiplied by the factor afterwards, which for SGD is the same as a rate of its own.

    :param quantizers: The quantizers.
    :param factors: Bit-width to factor on the step sizes' learning rate; those that are missing keep 1.
    :raises InvalidBitWidthError: If no quantizer holds one of the bit-widths.
    """

    def __init__(self, quantizers: QuantizerSet, factors: Mapping[int, float]):
        held = {bits for quantizer in quantizers.all() for bits in quantizer.candidate_bits}
        if unknown := sorted(set(factors) - held):
            msg = f"Learning rates are given for {unknown} bits, and the quantizers hold {sorted(held)}."
            raise InvalidBitWidthError(msg)
        self._rows: list[tuple[nn.Parameter, Tensor]] = []
        for quantizer in quantizers.all():
            if any(bits in factors for bits in quantizer.candidate_bits):
                raw = quantizer.raw_step_sizes
                row = torch.tensor([factors.get(bits, 1.0) for bits in quantizer.candidate_bits])
                self._rows.append((raw, row.to(raw).view(-1, *[1] * (raw.dim() - 1))))

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Does the optimizer's step with the factors."""
        before = [raw.detach().clone() for raw, _ in self._rows]
        optimizer.step()
        for (raw, row), old in zip(self._rows, before, strict=True):
            raw.copy_(old + row * (raw - old))
