"""OpenVINO's own format, converted from the exported ONNX file."""

import os
import tempfile
from pathlib import Path

import onnx
import openvino as ov

from llt_nncf.artifacts import POLICY_KEY
from llt_nncf.errors import ExportError
from llt_nncf.export.onnx_qcdq import VERSION_KEY
from llt_nncf.export.openvino_rounding import keep_rounding_before_additions


def export_openvino(onnx_path: Path | str, xml_path: Path | str) -> Path:
    """
    Converts an exported ONNX file to an OpenVINO model, ``.xml`` and ``.bin``.

    The result computes the same integers as the ONNX file in ONNX Runtime, also where OpenVINO, reading that file
    itself, would leave out a rounding in front of a residual addition (see ``openvino_rounding``).

    The policy and the version of the ONNX file's metadata are kept in the model's ``rt_info``, under ``llt_nncf``.

    :param onnx_path: Written by ``export_onnx``.
    :param xml_path: Ends in ``.xml``; the ``.bin`` stands beside it. Both appear when both are complete.
    :return: ``xml_path``.
    :raises ExportError: If the name is not an ``.xml`` file's, or OpenVINO cannot convert the model.
    """
    onnx_path, xml_path = Path(onnx_path), Path(xml_path)
    if xml_path.suffix != ".xml":
        msg = f"{xml_path}: an OpenVINO model's file name ends in .xml."
        raise ExportError(msg)
    try:
        proto = onnx.load(onnx_path)
        keep_rounding_before_additions(proto)
        # Not ov.convert_model: its simplifications tear the weights' dequantization apart, and convolutions that run
        # in int8 from the ONNX file would run in f32 from the .xml (measured with OpenVINO 2026.4.1).
        model = ov.Core().read_model(proto.SerializeToString())
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
    except Exception as error:  # OpenVINO raises RuntimeError and its own classes; onnx raises protobuf's.
        msg = f"{onnx_path}: cannot be converted to OpenVINO's format: {error}"
        raise ExportError(msg) from error
    for key in (POLICY_KEY, VERSION_KEY):
        if key in metadata:
            model.set_rt_info(metadata[key], key.split("."))
    xml_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{xml_path.stem}-", dir=xml_path.parent) as folder:
        written = Path(folder) / xml_path.name
        # fp16 compression would round the step sizes.
        ov.save_model(model, str(written), compress_to_fp16=False)
        # The .xml is what readers open: it comes last.
        for suffix in (".bin", ".xml"):
            os.replace(written.with_suffix(suffix), xml_path.with_suffix(suffix))
    return xml_path
