"""Records what PyTorch computes, so that the exported files can be validated where there is no PyTorch."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch import nn

from llt_nncf.artifacts import Reference
from llt_nncf.artifacts import weight_digest
from llt_nncf.errors import ExportError
from llt_nncf.export.activation_lowering import SIGNED_ZERO_POINT
from llt_nncf.functional import integer_range
from llt_nncf.functional import training_mode
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight

# In steps: so near to the middle between two codes, the rounding errors of float32 sums may decide.
_TIE_TOLERANCE = 2.0**-10
_UNCHECKED = "compression_ctrl.export_model writes the ONNX file of any, unchecked."


class _Tap(NamedTuple):
    codes: np.ndarray
    ties: np.ndarray


def record_reference(
    frozen_model: nn.Module,
    inputs: Any,
    labels: Any = None,
    *,
    float_model: nn.Module | None = None,
    num_tap_samples: int = 8,
    batch_size: int = 32,
) -> Reference:
    """
    Runs the frozen model, and for the first few inputs keeps the integer codes of every activation quantizer, and which
    of them were so near to a tie that an exact sum may round to the neighbouring code.

    :param frozen_model: The model that is exported; has one input and one output. Both models are run in evaluation
        mode, and left in the mode they were in.
    :param inputs: A tensor of floats, shape ``(N, ...)``, N at least 1; taken to the model's device batch by batch, in
        float32.
    :param labels: Class indices, a tensor, array or list of shape ``(N,)``.
    :param float_model: The model before quantization.
    :param num_tap_samples: Inputs whose codes are kept; they take as much memory as the activations in uint8.
    :param batch_size: Inputs in one forward pass.
    :return: The reference; ``reference.save(path)`` keeps it.
    :raises ExportError: If the inputs are none, no tensor or integers, the labels no integers, or the outputs several,
        or not one for each input.
    :raises ArtifactError: If the labels are no classes of the outputs.
    """
    if not isinstance(inputs, Tensor):
        msg = f"The inputs are {type(inputs).__name__}, and must be one tensor of shape (N, ...). {_UNCHECKED}"
        raise ExportError(msg)
    classes = None if labels is None else torch.as_tensor(labels).detach().cpu()
    if classes is not None and classes.is_floating_point():
        msg = f"The labels are {classes.dtype}, and must be indices of classes, or None."
        raise ExportError(msg)
    if not inputs.is_floating_point():
        msg = f"The inputs are {inputs.dtype}: only models of floating-point inputs can be validated. {_UNCHECKED}"
        raise ExportError(msg)
    if not len(inputs):
        msg = "There are no inputs: give one at least."
        raise ExportError(msg)
    inputs = inputs.float()
    taps: dict[str, list[_Tap]] = {}
    logits = _run(frozen_model, inputs, batch_size)
    if num_tap_samples > 0:
        with _codes_recorded(frozen_model, taps):
            # One by one: where a model moves its batch to another dimension, codes of several would be interleaved. The
            # outputs are those that belong to the codes, as in a batch of another size PyTorch may round otherwise.
            logits[:num_tap_samples] = _run(frozen_model, inputs[:num_tap_samples], 1)
    return Reference(
        inputs=inputs.detach().cpu().numpy(),
        logits=logits,
        labels=None if classes is None else classes.long().numpy(),
        float_logits=None if float_model is None else _run(float_model, inputs, batch_size),
        taps={name: _together([tap.codes for tap in samples]) for name, samples in taps.items()},
        ties={name: _together([tap.ties for tap in samples]) for name, samples in taps.items()},
        weight_digests={
            module.name: weight_digest(module.codes.cpu().numpy(), module.step_size.cpu().numpy())
            for module in frozen_model.modules()
            if isinstance(module, FrozenWeight)
        },
    )


def _run(model: nn.Module, inputs: Tensor, batch_size: int) -> np.ndarray:
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else inputs.device
    batches = inputs.split(batch_size)
    with training_mode(model, False), torch.no_grad():
        outputs = [model(batch.to(device)) for batch in batches]
    if not all(isinstance(output, Tensor) for output in outputs):
        msg = f"The model returns {type(outputs[0]).__name__}, and only models with one output can be validated. "
        raise ExportError(msg + _UNCHECKED)
    if any(len(output) != len(batch) for output, batch in zip(outputs, batches, strict=True)):
        msg = f"The model returns {len(outputs[0])} rows for {len(batches[0])} inputs; one for each can be validated. "
        raise ExportError(msg + _UNCHECKED)
    return np.concatenate([output.float().cpu().numpy() for output in outputs])


def _together(samples: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(samples) if len(samples[0]) == 1 else np.stack(samples)


@contextmanager
def _codes_recorded(model: nn.Module, taps: dict[str, list[_Tap]]) -> Iterator[None]:
    """Appends the codes and ties of each forward pass to ``taps``, by the names that the exported file gives them."""
    calls: Counter[str] = Counter()

    def start_pass(module: nn.Module, arguments: tuple) -> None:
        calls.clear()

    def record(quantizer: FrozenActivationQuantizer, arguments: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor):
            return  # it has called itself with the values
        name, signed = quantizer.name, quantizer.signed
        low, high = integer_range(quantizer.num_bits, signed=signed)
        exact = arguments[0] / quantizer.step_size
        codes = exact.round().clamp(low, high) + (SIGNED_ZERO_POINT if signed else 0)
        is_tie = ((exact - exact.floor() - 0.5).abs() <= _TIE_TOLERANCE) & (exact > low) & (exact < high)
        tap = _Tap(codes.to(torch.uint8).cpu().numpy(), is_tie.cpu().numpy())
        taps.setdefault(f"{name}#{calls[name]}" if calls[name] else name, []).append(tap)
        calls[name] += 1

    quantizers = [module for module in model.modules() if isinstance(module, FrozenActivationQuantizer)]
    hooks = [model.register_forward_pre_hook(start_pass)]
    hooks += [quantizer.register_forward_hook(record) for quantizer in quantizers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
