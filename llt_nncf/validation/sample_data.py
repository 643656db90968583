"""Somebody's own samples, in ``.npz`` files, batch by batch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from llt_nncf.artifacts import reading
from llt_nncf.errors import ArtifactError

_REMEDY = "Save it with np.savez(path, inputs=..., labels=...)."


class SampleData:
    """
    Samples with or without labels.

    :param path: An ``.npz`` file with ``inputs``, floats of shape ``(N, ...)``, and optionally ``labels`` of shape
        ``(N, ...)``; or a folder of such files, which are read one after the other in the order of their names.
    :raises ArtifactError: If there is no such file.
    """

    def __init__(self, path: Path | str):
        path = Path(path)
        self.path = path
        self._files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not self._files:
            msg = f"{path}: no .npz files in this folder."
            raise ArtifactError(msg)
        if not self._files[0].exists():
            msg = f"{path}: no such file or folder."
            raise ArtifactError(msg)

    def batches(
        self, batch_size: int, *, sample_shape: tuple[int, ...] | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """
        Gives inputs in float32, and labels; ``None`` for labels if there are none.

        :param batch_size: Most samples in one batch; a file's last batch may have fewer.
        :param sample_shape: Shape that one input must have; ``None`` for any.
        :raises ArtifactError: If a file is damaged, lacks ``inputs``, or has arrays of another type or shape.
        """
        with_labels = None
        for path in self._files:
            inputs, labels = _load(path, sample_shape)
            if with_labels not in (None, labels is not None):
                msg = f"{path}: some of the files have labels and some have none."
                raise ArtifactError(msg)
            with_labels = labels is not None
            for start in range(0, len(inputs), batch_size):
                part = slice(start, start + batch_size)
                yield inputs[part], None if labels is None else labels[part]

    def check_classes(self, labels: np.ndarray) -> None:
        """
        Checks that labels are integers.

        :raises ArtifactError: If they are not.
        """
        if labels.dtype.kind not in "iu":
            msg = f"{self.path}: labels is {labels.dtype}, and must be integers, the indices of classes."
            raise ArtifactError(msg)


def _load(path: Path, sample_shape: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray | None]:
    with reading(path, "an .npz file"), path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        arrays = {name: np.asarray(file[name]) for name in file.files}
    if "inputs" not in arrays:
        msg = f"{path}: has the arrays {sorted(arrays)}, but no 'inputs'. {_REMEDY}"
        raise ArtifactError(msg)
    inputs, labels = arrays["inputs"], arrays.get("labels")
    if inputs.dtype.kind != "f" or sample_shape not in (None, inputs.shape[1:]) or not inputs.size:
        wanted = "..." if sample_shape is None else ", ".join(map(str, sample_shape))
        msg = (
            f"{path}: inputs is {inputs.dtype} of shape {inputs.shape}, and must be floats of shape (N, {wanted}), "
            "prepared as for training."
        )
        raise ArtifactError(msg)
    if not np.isfinite(inputs).all():
        msg = f"{path}: inputs has NaN or infinite values."
        raise ArtifactError(msg)
    if labels is not None and (not labels.ndim or len(labels) != len(inputs)):
        msg = f"{path}: labels has shape {labels.shape} for {len(inputs)} inputs."
        raise ArtifactError(msg)
    return inputs.astype(np.float32, copy=False), labels
