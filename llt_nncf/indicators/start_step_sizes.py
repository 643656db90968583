"""Start values of all step sizes from a few batches of data."""

from collections.abc import Callable
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch import nn

from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.quantizers import SwitchableQuantizer


class _MeanAbs:
    """Running mean absolute value of what a quantizer sees, while it lets its input pass unquantized."""

    def __init__(self) -> None:
        self.total = torch.zeros(())
        self.batches = 0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        self.total = self.total + inputs[0].detach().float().abs().mean().cpu()
        self.batches += 1
        return inputs[0]


@torch.no_grad()
def start_step_sizes(
    model: nn.Module,
    quantizers: QuantizerSet,
    batches: Iterable[Any],
    forward: Callable[[nn.Module, Any], object],
) -> None:
    """
    Sets every step size below 8 bits to LSQ's start value, in place.

    Weights are looked at as they are; activations over ``batches``, with all quantizers open, in evaluation mode.
    8-bit step sizes keep the range that they have (that of the framework's range initialisation): at 8 bits covering
    the whole range costs nothing, and LSQ's value, made for training at few bits, can clip.

    :param model: The model with the quantizers; its training mode is restored.
    :param quantizers: The quantizers.
    :param batches: A few batches; activations that are never seen keep their step sizes.
    :param forward: Called with the model and each batch.
    """
    seen = {id(quantizer): _MeanAbs() for quantizer in quantizers.all()}
    weight_ids = {id(quantizer) for quantizer in quantizers.weights.values()}
    weights: dict[int, Tensor] = {}

    def remember_weight(module: nn.Module, inputs: tuple[Tensor]) -> None:
        weights.setdefault(id(module), inputs[0].detach())

    was_training = model.training
    model.eval()
    with ExitStack() as hooks:
        for quantizer in quantizers.all():
            if id(quantizer) in weight_ids:
                hooks.callback(quantizer.register_forward_pre_hook(remember_weight).remove)
            hooks.callback(quantizer.register_forward_hook(seen[id(quantizer)]).remove)
        for batch in batches:
            forward(model, batch)
    model.train(was_training)

    for quantizer in quantizers.all():
        if id(quantizer) in weights:
            _start(quantizer, _mean_abs_like(weights[id(quantizer)], quantizer.scale_shape))
        elif seen[id(quantizer)].batches:
            _start(quantizer, seen[id(quantizer)].total / seen[id(quantizer)].batches)


def _start(quantizer: SwitchableQuantizer, mean_abs: Tensor) -> None:
    eight_bits = quantizer.step_size(8).clone() if 8 in quantizer.candidate_bits else None
    quantizer.start_from(mean_abs)
    if eight_bits is not None:
        quantizer.set_step_size(8, eight_bits)


def _mean_abs_like(weight: Tensor, scale_shape: tuple[int, ...]) -> Tensor:
    magnitude = weight.float().abs()
    if len(scale_shape) != weight.dim():
        return magnitude.mean()
    dims = [dim for dim, size in enumerate(scale_shape) if size == 1]
    return magnitude.mean(dim=dims, keepdim=True)
