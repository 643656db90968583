"""The state of every random number generator that a training step may draw from, as tensors and plain values."""

import random
from typing import Any

import numpy as np
import torch


def random_state(loader: Any, device: torch.device) -> dict[str, Any]:
    """
    Returns the states of Python's, NumPy's and PyTorch's generators and of those that belong to the loader.

    :param loader: The data loader; its ``generator`` and those of its samplers are taken if it has any.
    :param device: Where the model is. Of several GPUs only that one's generator is taken: where the training goes on,
        others may not be there.
    """
    kind, key, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        # Not NumPy's array: torch.load would have to import and call something for it.
        "numpy": (kind, np.asarray(key).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "loader": [generator.get_state() for generator in _generators(loader)],
    }


def set_random_state(state: dict[str, Any], loader: Any, device: torch.device) -> None:
    """
    Puts all generators back.

    :param state: What ``random_state`` returned.
    :param loader: A loader with the same generators.
    :param device: Where the model is.
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    for generator, own in zip(_generators(loader), state["loader"], strict=True):
        generator.set_state(own)


def samplers(loader: Any) -> list[Any]:
    """Returns what a loader draws its samples by: its sampler, its batch sampler, and that one's own sampler."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    found = (getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    return list({id(sampler): sampler for sampler in found if sampler is not None}.values())


def _generators(loader: Any) -> list[torch.Generator]:
    found = (getattr(holder, "generator", None) for holder in (loader, *samplers(loader)))
    return list({id(generator): generator for generator in found if generator is not None}.values())
