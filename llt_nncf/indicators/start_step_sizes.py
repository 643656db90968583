"""Start values of all step sizes from a few batches of data."""

from collections.abc import Callable
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch import nn

from llt_nncf.errors import InvalidTensorError
from llt_nncf.functional import min_max_step_size
from llt_nncf.functional import training_mode
from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.quantizers import SwitchableQuantizer


class _Observer:
    """Keeps the magnitudes of what a quantizer sees, one of each per step size, and lets the input pass unquantized."""

    def __init__(self) -> None:
        self.mean_abs: list[Tensor] = []
        self.max_abs: list[Tensor] = []

    def __call__(self, quantizer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        magnitude = inputs[0].detach().float().abs()
        if quantizer.scale_shape == (1,):
            magnitude = magnitude.reshape(-1)
        dims = [dim for dim, size in enumerate(quantizer.scale_shape) if size == 1]  # type: ignore[arg-type]
        self.mean_abs.append(magnitude.mean(dim=dims, keepdim=True))
        self.max_abs.append(magnitude.amax(dim=dims, keepdim=True))
        return inputs[0]


@torch.no_grad()
def start_step_sizes(
    model: nn.Module,
    quantizers: QuantizerSet,
    batches: Iterable[Any],
    forward: Callable[[nn.Module, Any], object],
) -> None:
    """
    Sets the step sizes to their start values, in place: LSQ's below 8 bits, covering the whole range at 8.

    At 8 bits covering the range costs nothing, and LSQ's value, made for training at few bits, can clip. A quantizer
    whose range was set already (``has_range``) keeps that at 8 bits. Everything is observed with all quantizers open,
    in evaluation mode.

    :param model: The model with the quantizers; its training mode is restored.
    :param quantizers: The quantizers.
    :param batches: A few batches; quantizers that no batch reaches keep their step sizes.
    :param forward: Called with the model and each batch.
    :raises InvalidTensorError: If a quantizer sees NaN or infinity; it is named.
    """
    named = {**quantizers.weights, **quantizers.activations}
    observers = {name: _Observer() for name in named}
    with training_mode(model, False), ExitStack() as hooks:
        for name, quantizer in named.items():
            hooks.callback(quantizer.register_forward_hook(observers[name]).remove)
        for batch in batches:
            forward(model, batch)
    for name, observer in observers.items():
        if observer.mean_abs:
            try:
                _start(named[name], observer)
            except InvalidTensorError as error:
                msg = f"{name!r} sees NaN or infinity in the registered data: {error}"
                raise InvalidTensorError(msg) from error


def _start(quantizer: SwitchableQuantizer, observer: _Observer) -> None:
    kept = quantizer.step_size(8).clone() if quantizer.has_range and 8 in quantizer.candidate_bits else None
    quantizer.start_from(torch.stack(observer.mean_abs).mean(dim=0))
    if 8 in quantizer.candidate_bits:
        reach = torch.stack(observer.max_abs).amax(dim=0)
        covering = min_max_step_size(-reach, reach, num_bits=8, signed=quantizer.signed)
        quantizer.set_step_size(8, covering if kept is None else kept)
