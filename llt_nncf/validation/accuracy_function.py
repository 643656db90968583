"""A function of somebody's own that says how good outputs are."""

import math
from collections.abc import Callable
from collections.abc import Mapping
from numbers import Real
from pathlib import Path

import numpy as np

from llt_nncf.artifacts import reading
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import ValidationFailedError
from llt_nncf.validation.python_file import run_python_file

# Takes the outputs for all samples and their labels, which may be None, and returns one figure or several by name.
AccuracyFunction = Callable[[np.ndarray, np.ndarray | None], float | Mapping[str, float]]


def load_accuracy_function(text: str) -> AccuracyFunction:
    """
    Returns a function of a Python file. This runs the code of the file.

    :param text: ``FILE.py:FUNCTION``.
    :raises ArtifactError: If there is no such file or function, or if the file cannot be run.
    """
    file, _, name = text.rpartition(":")
    if not file.endswith(".py") or not name:
        msg = f"{text!r} does not name a function; write it as FILE.py:FUNCTION."
        raise ArtifactError(msg)
    with reading(file, "a Python file that can be run"):
        module = run_python_file(Path(file))
    function = getattr(module, name, None)
    if not callable(function):
        msg = f"{file}: has no function {name!r}."
        raise ArtifactError(msg)
    return function


def figures_of(function: AccuracyFunction, outputs: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    """
    Calls a function and returns its figures by name; ``accuracy`` if it returns one number.

    :param function: See ``AccuracyFunction``.
    :param outputs: Shape ``(N, ...)``.
    :param labels: Shape ``(N, ...)``.
    :raises ValidationFailedError: If the function raises, or returns something else than finite numbers.
    """
    try:
        result = function(outputs, labels)
    except Exception as error:  # It is somebody's own.
        msg = f"the accuracy function raised {type(error).__name__}: {error}"
        raise ValidationFailedError(msg) from error
    figures = dict(result) if isinstance(result, Mapping) else {"accuracy": result}
    for name, value in figures.items():
        number = value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value
        if not isinstance(number, Real) or not math.isfinite(number):
            msg = f"the accuracy function returned {value!r} as {name!r}; it must be a finite number."
            raise ValidationFailedError(msg)
        figures[name] = float(number)
    return {str(name): value for name, value in figures.items()}
