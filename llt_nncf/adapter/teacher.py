"""The teacher of NNCF's knowledge distillation, which is a part of the compressed model."""

from collections.abc import Iterator
from contextlib import contextmanager

from nncf.torch.nncf_network import NNCFNetwork


@contextmanager
def without_teacher(model: NNCFNetwork) -> Iterator[None]:
    """
    Takes the teacher off ``model`` for the time of the context, and forgets the loss of the last pass.

    Where nothing is learned the teacher costs a forward pass and a warning for each batch, and a model that holds a
    loss, with its graph, cannot be copied.
    """
    handler = model.nncf._kd_loss_handler
    if handler is not None:
        handler.zero_kd_loss()
    model.nncf._kd_loss_handler = None
    try:
        yield
    finally:
        model.nncf._kd_loss_handler = handler
