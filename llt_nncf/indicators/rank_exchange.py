"""
What the processes of one training exchange: nothing if there is only one.

Whatever one rank does while the others wait ends on all of them: by its result, by its error, or, if its process is
gone, by a ``RankExchangeError``.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed

from llt_nncf.errors import LltError
from llt_nncf.errors import RankExchangeError

T = TypeVar("T")


def rank_count() -> int:
    """Returns the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Returns the number of this process, from 0."""
    return 0 if rank_count() == 1 else distributed.get_rank()


def is_first_rank() -> bool:
    """Whether this process writes the files."""
    return rank() == 0


@contextmanager
def exchanging() -> Iterator[None]:
    """
    Words what PyTorch raises when an exchange fails.

    :raises RankExchangeError: If another process has ended, or did not answer within the process group's timeout; or if
        the group does not exchange tensors of this device, as NCCL does none of a CPU.
    """
    try:
        yield
    except RuntimeError as error:
        if "No backend type associated with device" in str(error):
            msg = (
                f"The process group's backend {distributed.get_backend()!r} cannot exchange what the model has: "
                f'{error}. Move the model to its GPU before create_compressed_model, or start the group with "gloo" to '
                "train on CPUs."
            )
            raise RankExchangeError(msg) from error
        msg = (
            f"Rank {rank()} of {rank_count()} could not exchange with the others: {error}. Most likely another process "
            "has ended, and its output has the reason. Start all ranks again: importance training goes on from its "
            "checkpoint in artifacts_dir, and the script from its own."
        )
        raise RankExchangeError(msg) from error


@torch.no_grad()
def average_over_ranks(tensors: Sequence[Tensor]) -> None:
    """
    Replaces every tensor by its mean over the ranks, in place, in one exchange per dtype.

    :param tensors: Of the same shapes, in the same order, on every rank.
    """
    if rank_count() == 1:
        return
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in same])
        with exchanging():
            distributed.all_reduce(flat)
        flat /= rank_count()
        for tensor, part in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def take_from_first_rank(tensors: Iterable[Tensor]) -> None:
    """Overwrites every tensor by that of rank 0, in place."""
    if rank_count() > 1:
        with exchanging():
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)


def smallest_over_ranks(number: int, device: torch.device) -> int:
    """Returns the least of the ranks' numbers."""
    if rank_count() == 1:
        return number
    value = torch.tensor(number, device=device)
    with exchanging():
        distributed.all_reduce(value, op=distributed.ReduceOp.MIN)
    return int(value)


def any_over_ranks(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """
    Returns, place by place, what is true on at least one rank.

    :param flags: As many on every rank.
    """
    if rank_count() == 1:
        return list(flags)
    values = torch.tensor(flags, dtype=torch.int32, device=device)
    with exchanging():
        distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


def gathered(value: T) -> list[T]:
    """
    Returns what every rank has, in their order.

    :param value: Picklable.
    """
    if rank_count() == 1:
        return [value]
    values: list[Any] = [None] * rank_count()
    with exchanging():
        distributed.all_gather_object(values, value)
    return values


def made_by_first_rank(make: Callable[[], T]) -> T:
    """
    Returns what ``make`` returns on rank 0, which alone calls it.

    :param make: Its result must be picklable.
    :raises LltError: On every rank, if ``make`` raises it.
    :raises RankExchangeError: On the other ranks, if ``make`` raises anything else, which stays the first rank's own.
    """
    if rank_count() == 1:
        return make()
    holder: list[Any] = [None, None]
    raised: Exception | None = None
    if is_first_rank():
        try:
            holder[0] = make()
        except LltError as error:
            holder[1] = raised = error
        except Exception as error:  # whoever wrote what is called, the others must not wait for it
            raised = error
            holder[1] = RankExchangeError(f"The first rank failed: {type(error).__name__}: {error}")
    with exchanging():
        distributed.broadcast_object_list(holder, src=0)
    if holder[1] is not None:
        raise raised or holder[1]
    return holder[0]
