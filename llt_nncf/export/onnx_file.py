"""Writes an ONNX file, with its data beside it if it is too large for one."""

import os
import tempfile
from pathlib import Path

import onnx

from llt_nncf.artifacts import write_atomically
from llt_nncf.errors import ExportError

# Protocol buffers end at 2 GiB; the rest is left to the graph.
MOST_BYTES_IN_ONE_FILE = 2**31 - 2**26


def save_onnx(proto: onnx.ModelProto, path: Path | str) -> Path:
    """
    Checks a model, and writes it whole or not at all.

    Above 2 GB the tensors go to ``<name>.data`` beside the file, as the engines expect it.

    :param proto: The model.
    :param path: The ``.onnx`` file.
    :return: ``path``.
    :raises ExportError: If the model is not valid ONNX.
    """
    path = Path(path)
    if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) < MOST_BYTES_IN_ONE_FILE:
        _check(proto, path)
        return write_atomically(path, lambda temporary: temporary.write_bytes(proto.SerializeToString()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
        written, data = Path(folder) / path.name, f"{path.name}.data"
        external = onnx.ModelProto()
        external.CopyFrom(proto)
        onnx.save_model(external, written, save_as_external_data=True, location=data)
        _check(str(written), path)
        # The .onnx is what readers open: it comes last.
        os.replace(written.with_name(data), path.with_name(data))
        os.replace(written, path)
    return path


def _check(model: onnx.ModelProto | str, path: Path) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        msg = f"{path}: the exported model is not valid ONNX: {error}"
        raise ExportError(msg) from error
