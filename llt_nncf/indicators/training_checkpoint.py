"""Checkpoints of importance training: written whole or not at all, refused if they belong to another training."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from llt_nncf.artifacts import check_zip
from llt_nncf.artifacts import write_atomically
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import some_of

_SCHEMA = "llt_nncf.importance_checkpoint/4"
_MOST_NAMED = 8


def plain_numbers(value: Any) -> Any:
    """
    Returns the same with Python's numbers in the place of NumPy's, which a checkpoint cannot hold as plain values.

    :param value: Numbers, and dicts, lists and tuples of them; anything else stays as it is.
    """
    if isinstance(value, dict):
        return {plain_numbers(key): plain_numbers(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain_numbers, value))
    return value.item() if isinstance(value, np.generic) else value


def save_checkpoint(path: Path | str, settings: dict[str, Any], state: dict[str, Any]) -> None:
    """
    Saves a training's state, atomically.

    :param path: The file; replaced if it is there.
    :param settings: What the training was asked to do; a resume must be asked to do the same.
    :param state: Everything that changes from step to step. Like ``settings`` of tensors and plain values.
    """
    content = {"schema": _SCHEMA, "settings": settings, "state": state}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # by its name PyTorch refuses a hidden file without a suffix
            torch.save(content, file)

    write_atomically(path, write)


def load_checkpoint(path: Path | str, settings: dict[str, Any]) -> dict[str, Any] | None:
    """
    Returns the saved state, or ``None`` if there is no file.

    :param path: The file; nothing in it is run.
    :param settings: What the training is asked to do now.
    :raises ArtifactError: If the file is no checkpoint, or of a training with other settings; both are named.
    """
    path = Path(path)
    if not path.exists():
        return None
    remedy = f"Delete it to train from the start: {path}"
    try:
        check_zip(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        schema, saved, state = content["schema"], dict(content["settings"]), content["state"]
    except Exception as error:  # pickle's, zip's or PyTorch's own; its text would advise to run what is in the file
        msg = (
            f"This is no checkpoint of importance training, or a damaged one, or one of before {_SCHEMA} "
            f"({type(error).__name__}). {remedy}"
        )
        raise ArtifactError(msg) from error
    if schema != _SCHEMA:
        msg = f"The checkpoint's schema is {schema!r}, and must be {_SCHEMA!r}. {remedy}"
        raise ArtifactError(msg)
    differing = [key for key in {**saved, **settings} if saved.get(key) != settings.get(key)]
    if differing:
        lines = [f"{key} was {saved.get(key)!r}, now {settings.get(key)!r}" for key in differing]
        msg = f"The checkpoint was saved by another training: {some_of(lines, _MOST_NAMED, '; ')}. {remedy}"
        raise ArtifactError(msg)
    return state
