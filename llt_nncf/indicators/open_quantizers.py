"""Quantizers that let everything pass, for statistics of the float model and for a float teacher."""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.quantizers import SwitchableQuantizer


@contextmanager
def open_quantizers(
    quantizers: QuantizerSet, on_input: Callable[[SwitchableQuantizer, Tensor], None] | None = None
) -> Iterator[None]:
    """
    Makes every quantizer return its input, as the same tensor, while the context lasts.

    :param quantizers: The quantizers; they get their own ``forward`` back at the end.
    :param on_input: Called with each quantizer and what it is given, at every call.
    """

    def opened(quantizer: SwitchableQuantizer) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            if on_input is not None:
                on_input(quantizer, x)
            return x

        return forward

    try:
        for quantizer in quantizers.all():
            # Not a forward hook: the quantizer would compute in vain, and a compiled model does not notice hooks.
            quantizer.__dict__["forward"] = opened(quantizer)
        yield
    finally:
        for quantizer in quantizers.all():
            quantizer.__dict__.pop("forward", None)
