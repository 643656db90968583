"""Model files: read with named errors, and OpenVINO's pair of them written whole or not at all."""

import os
import tempfile
from pathlib import Path

import onnx
import openvino as ov
from google.protobuf.message import DecodeError

from llt_nncf.errors import ExportError


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


def save_openvino(model: ov.Model, xml_path: Path | str) -> Path:
    """
    Saves a model for OpenVINO.

    :param model: The model.
    :param xml_path: Ends in ``.xml``; the ``.bin`` stands beside it. Both appear when both are complete.
    :return: ``xml_path``.
    """
    xml_path = Path(xml_path)
    xml_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{xml_path.stem}-", dir=xml_path.parent) as folder:
        written = Path(folder) / xml_path.name
        # fp16 compression would round the step sizes.
        ov.save_model(model, str(written), compress_to_fp16=False)
        # The .xml is what readers open: it comes last.
        for suffix in (".bin", ".xml"):
            os.replace(written.with_suffix(suffix), xml_path.with_suffix(suffix))
    return xml_path
