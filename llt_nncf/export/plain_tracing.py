"""What keeps a tracer from seeing the quantizers where they belong, out of the way for a while."""

import functools
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_OPERATORS = [f"__{side}{name}__" for name in ("add", "sub", "mul", "floordiv", "truediv", "mod") for side in ("", "r")]


@contextmanager
def plain_tracing() -> Iterator[None]:
    """
    Lets attention be computed by its single operations, and ``x.size(0) * 2`` by PyTorch's own operators.

    ``nn.MultiheadAttention`` would go by a fused kernel, which has no ONNX form and skips the quantizers inside.

    While a model is traced its sizes are tensors. NNCF, which has a subclass of ``torch.Tensor`` with operators of its
    own and tells the calls in a module by counting them, would count these too, and put the quantizer of a product of
    activations on a product of sizes.
    """
    wrapped = {
        (kind, name): operator
        for kind in Tensor.__subclasses__()
        for name in _OPERATORS
        if hasattr(operator := vars(kind).get(name), "_original_op")
    }
    is_fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for (kind, name), operator in wrapped.items():
        setattr(kind, name, _plain_for_sizes(operator))
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fused)
        for (kind, name), operator in wrapped.items():
            setattr(kind, name, operator)


def _plain_for_sizes(operator: Any) -> Callable[..., Any]:
    @functools.wraps(operator)
    def run(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in args if isinstance(value, Tensor)]
        is_size = all(value.dim() == 0 and value.dtype == torch.int64 for value in tensors)
        return (operator._original_op if is_size else operator)(*args, **kwargs)

    return run
