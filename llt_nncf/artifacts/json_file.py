"""JSON on disk: written whole or not at all, read with its schema checked."""

import json
import os
import stat
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from typing import NoReturn
from typing import TypeVar

from llt_nncf.artifacts.temporary_path import temporary_path
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import LltError

T = TypeVar("T")


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> Path:
    """
    Calls ``write`` with a temporary path in the same folder, then renames the result to ``path``.

    What a killed process left of the same file is removed.

    :param path: Where the file shall be; missing folders are made. An existing file is replaced and keeps its mode; of
        a symbolic link it is the file that the link points to.
    :param write: Writes the whole file to the path that it is given. If it raises, ``path`` is left as it was.
    :return: ``path``.
    :raises ArtifactError: If ``path`` is a folder, a device or the like.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        fault = "is a folder; give the name of a file in it" if target.is_dir() else "is no file; give the name of one"
        msg = f"{path}: {fault}."
        raise ArtifactError(msg)
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_path(target) as temporary:
        write(temporary)
        _sync(temporary)  # on disk before the name is: a power cut leaves the old file or the new one
        temporary.chmod(_mode_for(target))  # a temporary file is private to its owner
        temporary.replace(target)
        _sync(target.parent)
    return Path(path)


def _mode_for(path: Path) -> int:
    """The mode of the file that is there, or the one that any new file would have."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _sync(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_json(path: Path | str, schema: str, content: dict[str, Any]) -> Path:
    """
    Saves ``content`` with its schema name.

    :param path: The file.
    :param schema: Name and version, for example ``llt_nncf.bit_policy/1``.
    :param content: JSON-able values; NaN and infinity are refused.
    :return: ``path``.
    """
    text = json.dumps({"schema": schema, **content}, indent=1, allow_nan=False) + "\n"
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def load_json(path: Path | str, schema: str) -> dict[str, Any]:
    """
    Loads a file that ``save_json`` wrote.

    :param path: The file.
    :param schema: The name and version that it must have.
    :return: The content, without the schema key.
    :raises ArtifactError: If the file is missing, is no JSON object, or has another schema.
    """
    content = read_json(path)
    found = content.get("schema") if isinstance(content, dict) else None
    if found != schema:
        name = schema.partition("/")[0]
        is_of_another_version = str(found).partition("/")[0] == name
        remedy = "Write it again with this version of llt_nncf." if is_of_another_version else f"Give a file of {name}."
        msg = f"{path}: the schema is {found!r}, and must be {schema!r}. {remedy}"
        raise ArtifactError(msg)
    del content["schema"]
    return content


def schema_of(path: Path | str) -> Any:
    """
    Returns what a JSON file gives as its schema, or ``None``.

    :raises ArtifactError: If the file is missing or no JSON.
    """
    content = read_json(path)
    return content.get("schema") if isinstance(content, dict) else None


def read_json(path: Path | str) -> Any:
    """
    Reads any JSON file; NaN, infinity and keys that stand there twice are refused.

    :param path: The file.
    :raises ArtifactError: If the file is missing, or no JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_doubles)
    except FileNotFoundError:
        msg = f"{path}: no such file."
        raise ArtifactError(msg) from None
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: cannot be read as JSON: {error}"
        raise ArtifactError(msg) from error


@contextmanager
def parsing(where: Path | str, kind: str) -> Iterator[None]:
    """
    Words what goes wrong while loaded JSON is taken apart.

    :param where: Named in errors.
    :param kind: What it is not then, for example ``a bit policy``.
    :raises ArtifactError: If a key is missing, or a value is of the wrong type or out of range.
    """
    try:
        yield
    except LltError:
        raise  # it has its own words, and is a ValueError too
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        msg = f"{where}: not {kind}: {error!r}"
        raise ArtifactError(msg) from error


def typed(value: Any, kind: type[T]) -> T:
    """
    Returns ``value`` if it has the JSON type ``kind``; a conversion would take ``"4"``, ``4.7`` and ``true`` for 4.

    :param value: What was loaded.
    :param kind: ``int``, ``float``, ``str``, ``bool``, ``list`` or ``dict``; an integer passes for ``float``.
    :raises TypeError: If the type is another.
    """
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        msg = f"{value!r} is not of type {kind.__name__}"
        raise TypeError(msg)
    return value


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        msg = f"it has {next(name for name in content if names.count(name) > 1)!r} twice"
        raise ValueError(msg)
    return content
