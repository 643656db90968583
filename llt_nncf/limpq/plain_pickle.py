"""Pickles of plain data, read without trusting them."""

import pickle
from pathlib import Path
from typing import Any
from typing import NoReturn

from llt_nncf.errors import ArtifactError

_CONTAINERS = (dict, list, tuple)
_VALUES = (str, float, int)


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every name that a pickle wants imported, which is all that it could run."""

    def find_class(self, module: str, name: str) -> NoReturn:
        msg = f"it asks for {module}.{name}"
        raise pickle.UnpicklingError(msg)


def load_plain_pickle(path: Path | str) -> Any:
    """
    Loads a pickle of dicts, lists, tuples, str, float and int, and refuses all others.

    :param path: The file.
    :raises ArtifactError: If it is missing, no pickle, or holds or asks for anything else, which is then named.
    """
    try:
        with Path(path).open("rb") as file:
            content = _PlainUnpickler(file).load()
    except FileNotFoundError:
        msg = f"{path}: no such file."
        raise ArtifactError(msg) from None
    except Exception as error:  # A damaged pickle can raise nearly anything.
        msg = f"{path}: refused: {error or type(error).__name__}. Only containers, str, float and int may be in it."
        raise ArtifactError(msg) from error
    _check_plain(content, path)
    return content


def _check_plain(content: Any, path: Path | str) -> None:
    seen: set[int] = set()  # a pickle can refer to one object many times, and to itself
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) not in (*_CONTAINERS, *_VALUES):
            msg = (
                f"{path}: refused: it holds a {type(value).__name__}. Only containers, str, float and int may be in it."
            )
            raise ArtifactError(msg)
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += value
