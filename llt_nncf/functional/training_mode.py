"""Training or evaluation mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def training_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """
    Puts all modules into one mode, and each back into its own at the end: a model may be partly in evaluation mode.

    :param model: Changed while the context lasts.
    :param training: The mode.
    """
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode
