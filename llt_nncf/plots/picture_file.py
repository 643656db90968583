"""Figures as files, PNG or SVG by the name's ending."""

import io
import re
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from llt_nncf.artifacts import write_atomically
from llt_nncf.errors import ArtifactError

_FORMATS = {".png": "png", ".svg": "svg"}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def picture_format(path: Path | str) -> str:
    """
    Returns ``png`` or ``svg``, as the name of the file ends, in letters of either case.

    :raises ArtifactError: If it ends otherwise.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        msg = f"{path}: a picture's name ends in .png or .svg, and not in {path.suffix!r}. Name it {path.stem}.png."
        raise ArtifactError(msg)
    return _FORMATS[path.suffix.lower()]


def save_figure(figure: Figure, path: Path | str) -> Path:
    """
    Writes ``figure`` atomically. The same figure gives the same SVG file, which names no other file.

    :param figure: The figure.
    :param path: The file; an existing one is replaced.
    :return: ``path``.
    :raises ArtifactError: If the name ends neither in ``.png`` nor in ``.svg``.
    """
    if picture_format(path) == "png":
        return write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))
    content = io.StringIO()
    # Text stays text; names inside the file come from a hash, by default with a random salt.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "llt_nncf"}):
        figure.savefig(content, format="svg", metadata=_NO_METADATA)
    # The document type is the address of a file that no reader needs.
    text = re.sub(r"<!DOCTYPE[^>]*>\s*", "", content.getvalue(), count=1)
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
