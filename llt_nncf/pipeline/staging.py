"""Files that appear together, once all of them are known to be good."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

from llt_nncf.artifacts import temporary_path
from llt_nncf.errors import ArtifactError

# What readers open comes after what it refers to (model.bin, external data); the report vouches for all the others.
_ORDER = {".xml": 1, ".onnx": 1, ".json": 2}
REPORT = "report.json"
# What not every export has.
_OPTIONAL = ("indicators.png", "model.onnx.data", "float.onnx.data", "nncf_ptq.onnx", "nncf_ptq.xml", "nncf_ptq.bin")


@contextmanager
def staging_folder(out_dir: Path) -> Iterator[Path]:
    """
    Gives a temporary folder inside ``out_dir``, so on the same file system; it is removed at the end.

    :param out_dir: Made if it is missing, with its parents; what was made and stays empty is removed as well.
    :raises ArtifactError: If ``out_dir`` is a file.
    """
    if out_dir.exists() and not out_dir.is_dir():
        msg = f"{out_dir}: is a file; give a folder for the exported files."
        raise ArtifactError(msg)
    made = [path for path in (out_dir, *out_dir.parents) if not path.exists()]
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_path(out_dir / "export", is_folder=True) as folder:
            yield folder
    finally:
        with suppress(OSError):  # it has files now
            for path in made:
                path.rmdir()


def publish(folder: Path, out_dir: Path) -> None:
    """
    Moves all files of ``folder`` to ``out_dir``, each replaced as a whole.

    A report of an earlier export goes first, with the files that this one does not have, and the new report comes last:
    where there is a report, it is that of the files beside it, also if the process is killed in between.

    :param folder: On the same file system as ``out_dir``.
    """
    for name in (REPORT, *(name for name in _OPTIONAL if not (folder / name).exists())):
        (out_dir / name).unlink(missing_ok=True)
    files = sorted(folder.iterdir(), key=lambda file: (file.name == REPORT, _ORDER.get(file.suffix, 0), file.name))
    for file in files:
        os.replace(file, out_dir / file.name)
