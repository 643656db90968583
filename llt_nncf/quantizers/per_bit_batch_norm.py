"""
Batch norms with one set of values per bit-width of the layer in front of them, for training the indicators.

An option of the LIMPQ authors' code (Tang et al., ECCV 2022, arXiv:2203.08368): what 2-bit weights put out has other
statistics than what 6-bit weights do, and one running mean cannot serve both.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from llt_nncf.quantizers.switchable import SwitchableQuantizer


class PerBitBatchNorm(nn.Module):
    """
    While it is active (``with bank:``), every batch norm of a model uses a copy of its values for each bit-width.

    A copy has its own weight, bias, running mean, running variance and number of batches, as far as the original has
    them, and starts from the original's. Which copy a batch norm uses is decided anew at each call: by the bits of the
    weight quantizer that ran last before it in the same forward pass of the model. Behind a layer with one candidate,
    and in front of all layers, it uses the original.

    The copies belong to this module alone: hand its ``parameters()`` to the optimizer beside the model's, and save its
    ``state_dict()`` beside the model's. What no pass of a step has used has no gradient, so optimizers leave it alone.
    Outside a batch norm's own forward the model holds its originals, so its parameters, state dict and deep copies are
    those of the model without copies. A deep copy of the model that is taken inside the context has copies of its own.

    On leaving the context, also by an error, each batch norm that has used copies gets the values of the highest
    candidate's; the others keep what they have learned themselves. When the context is entered again, the copies go on
    from where they were.

    NOTE: differs from the authors' code, which tells the layer in front by the order of the modules in the model: the
    order of execution decides what a batch norm is fed with.

    :param model: Its batch norms, ``SyncBatchNorm`` and subclasses among them, are switched. Nothing in it changes
        until the context is entered.
    :param weight_quantizers: The weight quantizers of its layers.
    """

    _highest_bits: Tensor

    def __init__(self, model: nn.Module, weight_quantizers: Iterable[SwitchableQuantizer]):
        super().__init__()
        # In a tuple and a dict, so that model, quantizers and batch norms do not become parts of this module.
        self._outside = (model, tuple(weight_quantizers))
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._originals = {norm: (index, norm._parameters, norm._buffers) for index, norm in enumerate(norms)}
        searched = [quantizer.candidate_bits for quantizer in self._outside[1] if len(quantizer.candidate_bits) > 1]
        every_bits = sorted({num_bits for candidate_bits in searched for num_bits in candidate_bits}, reverse=True)
        # By the order of the batch norms in the model, then by bits.
        self.copies = nn.ModuleList(nn.ModuleDict({str(bits): _copy_of(norm) for bits in every_bits}) for norm in norms)
        # Highest candidate of the layer in front of each batch norm; 0 as long as it has used no copy.
        self.register_buffer("_highest_bits", torch.zeros(len(norms), dtype=torch.int64))
        self._in_front: tuple[int, ...] = ()  # bits and highest candidate of the layer that ran last, if it is searched
        self._hooks: list[Any] = []

    def __enter__(self) -> "PerBitBatchNorm":
        # Methods, not closures: a deep copy of the model then gets copies of its own.
        model, quantizers = self._outside
        self._hooks.append(model.register_forward_pre_hook(self._start_pass))
        self._hooks += [quantizer.register_forward_hook(self._note_bits) for quantizer in quantizers]
        for norm in self._originals:
            self._hooks.append(norm.register_forward_pre_hook(self._swap_in))
            self._hooks.append(norm.register_forward_hook(self._swap_out, always_call=True))
        return self

    def __exit__(self, *error: object) -> None:
        while self._hooks:
            self._hooks.pop().remove()
        self._write_back()

    def _start_pass(self, model: nn.Module, inputs: Any) -> None:
        self._in_front = ()

    def _note_bits(self, quantizer: SwitchableQuantizer, inputs: Any, output: Any) -> None:
        is_searched = len(quantizer.candidate_bits) > 1
        self._in_front = (quantizer.num_bits, quantizer.candidate_bits[0]) if is_searched else ()

    def _swap_in(self, norm: _BatchNorm, inputs: Any) -> None:
        if self._in_front:
            num_bits, highest_bits = self._in_front
            index = self._originals[norm][0]
            copy = self._copy(index, num_bits)
            norm._parameters, norm._buffers = copy._parameters, copy._buffers
            self._highest_bits[index] = highest_bits

    def _swap_out(self, norm: _BatchNorm, inputs: Any, output: Any) -> None:
        _, norm._parameters, norm._buffers = self._originals[norm]

    def _write_back(self) -> None:
        for norm, (index, *_) in self._originals.items():
            if highest_bits := int(self._highest_bits[index]):
                # Not strict: NNCF's batch norms have submodules.
                norm.load_state_dict(self._copy(index, highest_bits).state_dict(), strict=False)

    def _copy(self, index: int, num_bits: int) -> nn.Module:
        return self.copies[index].get_submodule(str(num_bits))


def _copy_of(norm: nn.Module) -> nn.Module:
    """Returns a module with the same parameters and buffers as ``norm`` itself has, and nothing else."""
    copy = nn.Module()
    for name, parameter in norm._parameters.items():
        value = None if parameter is None else nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        copy.register_parameter(name, value)
    for name, buffer in norm._buffers.items():
        copy.register_buffer(name, None if buffer is None else buffer.clone())
    return copy
