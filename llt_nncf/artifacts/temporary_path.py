"""Hidden files and folders in which something is made; the next process removes those of one that was killed."""

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

try:
    import fcntl

    _HAS_LOCKS = True
except ImportError:  # no Unix: there what a killed process left stays
    _HAS_LOCKS = False

_UNFINISHED = ".unfinished"
_RANDOM_CHARACTERS = "?" * 8


@contextmanager
def temporary_path(path: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """
    Gives a new empty file, or folder, beside ``path``, and removes at the end what is still there under its name.

    Those that were begun for the same ``path`` and belong to no process any more are removed at the beginning.

    :param path: Its folder must be there; the temporary name has its stem and its suffix.
    :param is_folder: Whether a folder is made.
    """
    prefix = f"{_UNFINISHED}-{path.stem}-"
    for name in glob.glob(f"{glob.escape(prefix)}{_RANDOM_CHARACTERS}{glob.escape(path.suffix)}", root_dir=path.parent):
        _remove_if_abandoned(path.parent / name)
    make = tempfile.mkdtemp if is_folder else _new_file
    while True:
        temporary = Path(make(prefix=prefix, suffix=path.suffix, dir=path.parent))
        handle = _lock(temporary, wait=True)
        if handle is not None or not _HAS_LOCKS:
            break  # or else another process took it for abandoned before it was locked
    try:
        yield temporary
    finally:
        _remove(temporary)
        if handle is not None:
            os.close(handle)


def _new_file(prefix: str, suffix: str, dir: Path) -> str:
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=dir)
    os.close(handle)
    return name


def _lock(path: Path, *, wait: bool) -> int | None:
    """Returns a handle that marks ``path`` as in use until it is closed, or ``None`` if it is gone or in use."""
    if not _HAS_LOCKS:
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return handle
    except OSError:
        # In use; or a file system without locks, on which nothing is ever known to be abandoned.
        if wait:
            return handle
    os.close(handle)
    return None


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):  # it may be somebody else's
        handle = _lock(path, wait=False)
        if handle is not None:
            try:
                _remove(path)
            finally:
                os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
