"""The values that a model's buffers have at a moment: running statistics, counters, whatever a forward pass changes."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch import nn

from llt_nncf.indicators.quantizer_set import QuantizerSet


class ModelBuffers:
    """
    All buffers of some modules but those of the quantizers, which say what bits are in use.

    They are found by their names anew each time: a forward pass may put another tensor in a buffer's place.

    :param modules: The model, and what belongs to it.
    :param quantizers: Its quantizers.
    """

    def __init__(self, modules: Iterable[nn.Module], quantizers: QuantizerSet):
        theirs = {id(quantizer) for quantizer in quantizers.all()}
        self._places = [
            (module, name)
            for owner in modules
            for module in owner.modules()
            if id(module) not in theirs
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    def tensors(self) -> list[Tensor]:
        """Returns them as they are now; those that several modules share once."""
        found = [getattr(module, name) for module, name in self._places]
        return list({id(buffer): buffer for buffer in found}.values())

    def copies(self) -> list[Tensor]:
        """Returns copies for ``put_back``."""
        return [getattr(module, name).clone() for module, name in self._places]

    @torch.no_grad()
    def put_back(self, copies: list[Tensor]) -> None:
        """Gives all of them the values that they had at ``copies()``."""
        for (module, name), value in zip(self._places, copies, strict=True):
            getattr(module, name).copy_(value)
