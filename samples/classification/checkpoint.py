"""Everything that a training needs to go on as if nobody had killed it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from changes import changes
from torch import nn
from torch.utils.data import DataLoader

from llt_nncf.artifacts import write_atomically
from llt_nncf.errors import ArtifactError


class Checkpoint:
    """
    A file that is written after every epoch, whole or not at all.

    :param path: The file; ``llt-nncf export`` reads it too.
    :param resume: Whether to go on from it, if it is there; otherwise an old one is removed.
    :param settings: What the training depends on, as plain values; a resume must have the same, also the length: a
        learning rate that falls to 0 over more epochs would have to rise first.
    :raises ArtifactError: If it is to go on from a training with other settings; what differs is named.
    """

    def __init__(self, path: Path, *, resume: bool, settings: Mapping[str, Any]):
        self._path = path
        self._settings = dict(settings)
        self._saved: dict[str, Any] = {}
        if not resume:
            path.unlink(missing_ok=True)
        elif path.exists():
            self._saved = torch.load(path, map_location="cpu", weights_only=True)
            if found := list(changes(self._saved.get("settings", {}), settings)):
                msg = f"{path} is of another training: {'; '.join(found)}. Give what was given, or leave out --resume."
                raise ArtifactError(msg)
            print(f"  goes on after epoch {self._saved['epoch']}: {path}")

    @property
    def compression_state(self) -> dict[str, Any] | None:
        """For ``create_compressed_model``; ``None`` if there is nothing to go on from."""
        return self._saved.get("compression")

    def restore(self, model: nn.Module, loader: DataLoader, optimizer: Any, schedule: Any) -> int:
        """Puts everything back as it was, and returns the number of epochs that are done."""
        if not self._saved:
            return 0
        model.load_state_dict(self._saved["model"])
        optimizer.load_state_dict(self._saved["optimizer"])
        schedule.load_state_dict(self._saved["schedule"])
        torch.set_rng_state(self._saved["rng"])
        loader.generator.set_state(self._saved["loader_rng"])  # the order of the data
        return self._saved["epoch"]

    def save(
        self, epoch: int, model: nn.Module, loader: DataLoader, optimizer: Any, schedule: Any, ctrl: Any = None
    ) -> None:
        """Saves everything after ``epoch`` epochs."""
        content = {
            "settings": self._settings,
            "epoch": epoch,
            "model": model.state_dict(),
            "compression": None if ctrl is None else ctrl.get_compression_state(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "rng": torch.get_rng_state(),
            "loader_rng": loader.generator.get_state(),
        }
        write_atomically(self._path, partial(torch.save, content))
