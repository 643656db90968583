"""The float model that a command line names: a function in a file of one's own, or a classifier of torchvision."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from llt_nncf.errors import ArtifactError
from llt_nncf.errors import some_of
from llt_nncf.validation.python_file import run_python_file

TORCHVISION = "torchvision:"


def make_model(spec: str) -> nn.Module:
    """
    Makes the model of ``FILE.py:FACTORY``, by running that file, or of ``torchvision:NAME``.

    :param spec: The factory is called without arguments; torchvision's models have random weights.
    :raises ArtifactError: If there is no such file, function or classifier, it raises, or it returns no module.
    """
    path, _, name = spec.rpartition(":")
    if not path or not name:
        msg = f"--model {spec}: give FILE.py:FACTORY or torchvision:NAME."
        raise ArtifactError(msg)
    if spec.startswith(TORCHVISION):
        try:
            return torchvision.models.get_model(name, weights=None)
        except ValueError as error:
            msg = f"--model {spec}: {error}. torchvision has for example resnet18, resnet50 and mobilenet_v2."
            raise ArtifactError(msg) from error
    module = _checked(spec, lambda: run_python_file(Path(path)))
    factory = getattr(module, name, None)
    if not callable(factory):
        found = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        msg = f"--model {spec}: there is no function {name!r} in the file; it has {some_of(found, 10) or 'none'}."
        raise ArtifactError(msg)
    model = _checked(spec, factory)
    if not isinstance(model, nn.Module):
        msg = f"--model {spec}: returned {type(model).__name__}; it must return the float model, a torch.nn.Module."
        raise ArtifactError(msg)
    return model


def _checked(spec: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ArtifactError:
        raise
    except Exception as error:  # whatever somebody's file raises
        place = traceback.extract_tb(error.__traceback__)[-1]
        msg = f"--model {spec}: {type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        raise ArtifactError(msg) from error
