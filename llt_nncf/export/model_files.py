"""Model files: read with named errors, and written whole or not at all."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import openvino as ov
from google.protobuf.message import DecodeError

from llt_nncf.artifacts import temporary_path
from llt_nncf.artifacts import write_atomically
from llt_nncf.errors import ExportError

# Protocol buffers end at 2 GiB; the rest is left to the graph.
MOST_BYTES_IN_ONE_FILE = 2**31 - 2**26

_MINIFICATIONS = (
    (rb">\s+<", b"><"),
    (rb"<dim>[^<]*</dim>", b""),
    (rb"(<port [^>]*[^/])></port>", rb"\1/>"),
    (rb'" />', b'"/>'),
)


def read_onnx(path: Path | str) -> onnx.ModelProto:
    """
    Reads an ONNX file.

    :param path: The file.
    :raises ExportError: If it is missing or no ONNX.
    """
    try:
        return onnx.load(path)
    except (OSError, DecodeError) as error:
        msg = f"{path}: cannot be read as ONNX: {error!r}"
        raise ExportError(msg) from error


def save_onnx(proto: onnx.ModelProto, path: Path | str, *, check: bool = True) -> Path:
    """
    Checks a model and saves it. Above 2 GB the tensors go to ``<path>.data``, where the engines look for them.

    :param proto: The model.
    :param path: The ``.onnx`` file.
    :param check: ``False`` for a file that an engine reads at once: the check is up to a quarter of the conversion.
    :return: ``path``.
    :raises ExportError: If the model is not valid ONNX.
    """
    path = Path(path)
    if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) < MOST_BYTES_IN_ONE_FILE:
        if check:
            _check(proto, path)
        return write_atomically(path, lambda temporary: temporary.write_bytes(proto.SerializeToString()))
    data = f"{path.name}.data"
    external = onnx.ModelProto()
    external.CopyFrom(proto)
    # The .onnx is what readers open: it comes last.
    with _written_together(path, [data, path.name]) as written:
        onnx.save_model(external, written, save_as_external_data=True, location=data)
        if check:
            _check(str(written), path)
    return path


def _check(model: onnx.ModelProto | str, path: Path) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        msg = f"{path}: the exported model is not valid ONNX: {error}"
        raise ExportError(msg) from error


def read_openvino(path: Path | str) -> ov.Model:
    """
    Reads a model into OpenVINO.

    :param path: An ``.onnx`` or ``.xml``.
    :raises ExportError: If OpenVINO cannot read it.
    """
    try:
        return ov.Core().read_model(str(path))
    except Exception as error:  # OpenVINO raises RuntimeError and its own classes.
        msg = f"{path}: OpenVINO cannot read it: {str(error).strip()[:300]}"
        raise ExportError(msg) from error


def save_openvino(model: ov.Model, xml_path: Path | str, *, minified: bool = False) -> Path:
    """
    Saves a model for OpenVINO.

    :param model: The model.
    :param xml_path: Ends in ``.xml``; the ``.bin`` stands beside it. Both appear when both are complete.
    :param minified: Leaves out white space and the shapes of all operations, which OpenVINO infers when it reads the
        file: two fifths of the ``.xml``.
    :return: ``xml_path``.
    """
    xml_path = Path(xml_path)
    with _written_together(xml_path, [f"{xml_path.stem}.bin", xml_path.name]) as written:
        # fp16 compression would round the step sizes.
        ov.save_model(model, str(written), compress_to_fp16=False)
        if minified:
            content = written.read_bytes()
            for pattern, shorter in _MINIFICATIONS:
                content = re.sub(pattern, shorter, content)
            written.write_bytes(content)
    return xml_path


@contextmanager
def _written_together(path: Path, names: list[str]) -> Iterator[Path]:
    """Gives a path in a temporary folder; the files of these names are then moved to the folder of ``path`` in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_path(path, is_folder=True) as folder:
        yield folder / path.name
        for name in names:
            os.replace(folder / name, path.with_name(name))
