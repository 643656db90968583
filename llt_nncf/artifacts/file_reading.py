"""Files that other packages parse: whatever these raise becomes an error with the file's name."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llt_nncf.errors import ArtifactError
from llt_nncf.errors import LltError


@contextmanager
def reading(path: Path | str, kind: str) -> Iterator[None]:
    """
    Words what goes wrong while a file is read: numpy, protobuf and the engines raise classes of many kinds at damage.

    :param path: The file.
    :param kind: What it is not then, for example ``a reference``; with the remedy, if there is one.
    :raises ArtifactError: Instead of any exception that is not this package's own.
    """
    try:
        yield
    except LltError:
        raise
    except FileNotFoundError:
        msg = f"{path}: no such file."
        raise ArtifactError(msg) from None
    except Exception as error:
        msg = f"{path}: not {kind}: {type(error).__name__}: {str(error).strip()[:300]}"
        raise ArtifactError(msg) from error


def check_zip(path: Path | str) -> None:
    """
    Compares every member of a zip file with its checksum, which ``torch.load`` does not do.

    :param path: The file, as ``torch.save`` writes it.
    :raises BadZipFile: If it is no zip file, or a member is damaged.
    """
    with zipfile.ZipFile(path) as file:
        damaged = file.testzip()
    if damaged is not None:
        msg = f"{damaged} is damaged"
        raise zipfile.BadZipFile(msg)
