"""Biases on the int32 grid while the model is fine-tuned and evaluated, so that freezing changes nothing any more."""

from collections.abc import Iterable
from typing import Any

import torch
from nncf.torch import no_nncf_trace
from torch import Tensor

from llt_nncf.adapter.layer_fold import LayerFold


class RoundedBias:
    """
    Makes a layer compute with the bias that freezing will give it: a whole number of input step x weight step.

    While the batch norm behind the layer runs (or the layer, if there is none), its bias is moved by the difference
    between the rounded and the exact folded bias, which follows from the running statistics and the step sizes as they
    are then. The difference counts as a constant, so that the gradient reaches the bias as before. The model's
    parameters, buffers and state dict are those of the model without.

    In a channel that freezing silences (``steps_with_room``) the bias is the frozen one; the next to nothing that its
    weights contribute is still there.

    :param fold: The layer.
    """

    def __init__(self, fold: LayerFold):
        self._fold = fold
        owner = fold.bias_owner
        # Methods, not closures: a deep copy of the model then gets its own. Hooks, not NNCF's pre-operations, which
        # modules of a class of one's own do not have.
        self._hooks = [
            owner.register_forward_pre_hook(self._shift),
            owner.register_forward_hook(self._shift_back, always_call=True),
        ]
        owner.rounded_bias = self

    def remove(self) -> None:
        """Takes everything out again."""
        for hook in self._hooks:
            hook.remove()
        del self._fold.bias_owner.rounded_bias

    def _shift(self, module: Any, inputs: Any) -> None:
        with no_nncf_trace():
            with torch.no_grad():
                moved = self._offset()
            if module.bias is not None:
                moved = module.bias + moved.to(module.bias.device)
        # Beside the parameter, which stays where it is: an attribute of the instance is found first.
        module.__dict__["bias"] = moved

    def _shift_back(self, module: Any, inputs: Any, output: Any) -> None:
        module.__dict__.pop("bias", None)

    def _offset(self) -> Tensor:
        weight = self._fold.module.weight
        bias: Any  # there is one: round_biases has looked
        _, step_size, bias = self._fold.fold(weight.new_zeros([1] * weight.dim()))
        return self._fold.round_bias(bias, step_size) - bias


def round_biases(folds: Iterable[LayerFold]) -> None:
    """
    Puts the biases of all layers with quantized input on their grids, for training and evaluation.

    NOTE: only once a policy is in force. While the indicators are trained the bits, and with them the grids, change
    from pass to pass, and a batch norm has one bias for all of them.

    :param folds: The layers.
    """
    for fold in folds:
        has_bias = fold.batch_norm is not None or fold.module.bias is not None
        if has_bias and fold.weight_op is not None and fold.input_quantizer is not None:
            RoundedBias(fold)


def exact_biases(folds: Iterable[LayerFold]) -> None:
    """
    Takes back what ``round_biases`` has done, if it has.

    :param folds: The layers.
    """
    for fold in folds:
        if hasattr(fold.bias_owner, "rounded_bias"):
            fold.bias_owner.rounded_bias.remove()
