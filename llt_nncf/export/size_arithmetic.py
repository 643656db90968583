"""Keeps arithmetic with tensor sizes out of NNCF's sight while a model is traced."""

import functools
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_OPERATORS = [f"__{side}{name}__" for name in ("add", "sub", "mul", "floordiv", "truediv", "mod") for side in ("", "r")]


@contextmanager
def plain_size_arithmetic() -> Iterator[None]:
    """
    Lets ``x.size(0) * 2`` be computed by PyTorch's own operators as long as the context lasts.

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
    for (kind, name), operator in wrapped.items():
        setattr(kind, name, _plain_for_sizes(operator))
    try:
        yield
    finally:
        for (kind, name), operator in wrapped.items():
            setattr(kind, name, operator)


def _plain_for_sizes(operator: Any) -> Callable[..., Any]:
    @functools.wraps(operator)
    def run(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in args if isinstance(value, Tensor)]
        is_size = all(value.dim() == 0 and value.dtype == torch.int64 for value in tensors)
        return (operator._original_op if is_size else operator)(*args, **kwargs)

    return run
