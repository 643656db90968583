"""Switchable quantizers for a plain PyTorch model, without NNCF: what ``train_indicators`` takes."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.nn.utils import parametrize

from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import InvalidTensorError
from llt_nncf.functional import training_mode
from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.quantizers import SwitchableQuantizer

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@torch.no_grad()
def insert_quantizers(
    model: nn.Module, sample: Tensor, *, candidate_bits: Sequence[int], fixed_bits: int = 8
) -> QuantizerSet:
    """
    Gives every convolution and linear layer a quantizer for its weight and one for its input, in place.

    The first and the last layer of the forward pass are fixed, as in the paper, and so are layers that it calls more
    than once. An input is unsigned if the sample shows no negative value there. Set the start values next, by
    ``start_step_sizes``. The weights become parametrized (``torch.nn.utils.parametrize``).

    :param model: The model; layers that the sample does not reach are left alone.
    :param sample: A batch of inputs, shape ``(N, ...)``.
    :param candidate_bits: Bit-widths to choose from, each 2 to 8.
    :param fixed_bits: Bit-width of the fixed layers.
    :return: The quantizers with their layer table.
    :raises InvalidTensorError: If the model calls no such layer, or one by keyword, or its weight is no parameter.
    :raises InvalidBitWidthError: If a bit-width is outside 2..8.
    """
    names = {module: name for name, module in model.named_modules() if isinstance(module, _LAYERS)}
    calls: list[tuple[Any, bool, int]] = []
    reads_sample = set()

    def note(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not inputs:
            msg = f"{names[module]!r} is called with its input by keyword: give it by position."
            raise InvalidTensorError(msg)
        if not isinstance(module.weight, nn.Parameter) and not parametrize.is_parametrized(module, "weight"):
            msg = f"The weight of {names[module]!r} is no parameter: undo torch.nn.utils.weight_norm or the like."
            raise InvalidTensorError(msg)
        calls.append((module, bool((inputs[0] < 0).any()), output.numel() // len(sample)))
        if inputs[0] is sample:
            reads_sample.add(module)

    with training_mode(model, False), ExitStack() as hooks:
        for module in names:
            hooks.callback(module.register_forward_hook(note).remove)
        model(sample)
    if not calls:
        msg = "The model has no convolution and no linear layer that the sample reaches."
        raise InvalidTensorError(msg)
    modules = [module for module, _, _ in calls]
    fixed = {modules[0], modules[-1], *(module for module in modules if modules.count(module) > 1)}
    rows, weights, activations = [], {}, {}
    for module in dict.fromkeys(modules):
        name = names[module]
        bits = (fixed_bits,) if module in fixed else tuple(sorted(candidate_bits, reverse=True))
        signed = any(is_signed for caller, is_signed, _ in calls if caller is module)
        weight = SwitchableQuantizer(bits, is_weight=True).to(module.weight.device)
        activation = SwitchableQuantizer(bits, signed=signed).to(module.weight.device)
        if module in reads_sample:
            activation.keep_range()
        count = module.weight.numel()
        # Every output element meets one filter.
        outputs = sum(elements for caller, _, elements in calls if caller is module)
        macs = outputs * math.prod(module.weight.shape[1:])
        depthwise = not isinstance(module, nn.Linear) and module.groups == module.in_channels > 1
        rows.append(Layer(name, macs, count, f"{name} input", bits, bits, depthwise))
        weights[name], activations[f"{name} input"] = weight, activation
    # Only now: an error above leaves the model as it was.
    for name, weight, activation in zip(weights, weights.values(), activations.values(), strict=True):
        layer = model.get_submodule(name)
        parametrize.register_parametrization(layer, "weight", weight, unsafe=True)
        layer.add_module("input_quantizer", activation)
        layer.register_forward_pre_hook(_quantize_input)
    return QuantizerSet(LayerTable(tuple(rows)), weights, activations)


def _quantize_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (module.input_quantizer(inputs[0]), *inputs[1:])  # type: ignore[operator]
