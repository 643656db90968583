"""What a pass of importance training is to minimise."""

from typing import Any

from torch import Tensor

from llt_nncf.errors import InvalidTensorError


def scalar_loss(loss: Any) -> Tensor:
    """
    Returns the loss without dimensions.

    :param loss: A tensor of one element, of any shape.
    :return: Shape ``()``.
    :raises InvalidTensorError: If it is anything else; says what to do.
    """
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.reshape(())
    found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
    msg = (
        f"The loss of importance training is {found}, and must be a tensor of one element: give "
        "register_default_init_args a criterion that returns its mean, or with criterion_fn= a function "
        "criterion_fn(outputs, target, criterion) that picks or sums up what is to be minimised."
    )
    raise InvalidTensorError(msg)
