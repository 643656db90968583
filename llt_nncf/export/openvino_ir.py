"""OpenVINO's own format, converted from the exported ONNX file."""

import json
import os
import re
import tempfile
from pathlib import Path

import onnx
import openvino as ov

from llt_nncf.artifacts import DIGEST_KEY
from llt_nncf.artifacts import POLICY_KEY
from llt_nncf.artifacts import VERSIONS_KEY
from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ExportError
from llt_nncf.export.onnx_file import save_onnx
from llt_nncf.export.openvino_folding import fold_constants
from llt_nncf.export.openvino_packing import pack_ir_weights
from llt_nncf.export.openvino_quantizers import clip_before_rounding
from llt_nncf.export.openvino_quantizers import keep_rounding_before_additions


def export_openvino(onnx_path: Path | str, xml_path: Path | str, *, packed: bool = False) -> Path:
    """
    Converts an exported ONNX file to an OpenVINO model, ``.xml`` and ``.bin``.

    The result computes the same integers as the ONNX file in ONNX Runtime, also where OpenVINO, reading that file
    itself, would leave out a rounding in front of a residual addition (see ``openvino_quantizers``).

    The metadata of the ONNX file is kept in the model's ``rt_info``, under ``llt_nncf``, with OpenVINO's version added;
    the digest there is that of the ONNX file.

    :param onnx_path: Written by ``export_onnx``, packed or not.
    :param xml_path: Ends in ``.xml``; the ``.bin`` stands beside it. Both appear when both are complete.
    :param packed: Stores the weights at the bits of the policy that the ONNX file carries; without a policy at those
        that they need.
    :return: ``xml_path``.
    :raises ExportError: If the name is not an ``.xml`` file's, or OpenVINO cannot convert the model.
    """
    onnx_path, xml_path = Path(onnx_path), Path(xml_path)
    if xml_path.suffix != ".xml":
        msg = f"{xml_path}: an OpenVINO model's file name ends in .xml."
        raise ExportError(msg)
    xml_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{xml_path.stem}-", dir=xml_path.parent) as folder:
        written = Path(folder) / xml_path.name
        try:
            _convert(onnx_path, written, packed=packed)
        except Exception as error:  # OpenVINO raises RuntimeError and its own classes; onnx raises protobuf's.
            msg = f"{onnx_path}: cannot be converted to OpenVINO's format: {error}"
            raise ExportError(msg) from error
        # The .xml is what readers open: it comes last.
        for suffix in (".bin", ".xml"):
            os.replace(written.with_suffix(suffix), xml_path.with_suffix(suffix))
    return xml_path


def _convert(onnx_path: Path, xml_path: Path, *, packed: bool) -> None:
    proto = onnx.load(onnx_path)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    clip_before_rounding(proto)
    keep_rounding_before_additions(proto)
    # Not ov.convert_model: its simplifications tear the weights' dequantization apart, and convolutions that run in
    # int8 from the ONNX file would run in f32 from the .xml (2026.4.1).
    model = ov.Core().read_model(save_onnx(proto, xml_path.with_suffix(".onnx")))
    fold_constants(model)
    if packed:
        saved = metadata.get(POLICY_KEY)
        policy = {} if saved is None else BitPolicy.from_dict(json.loads(saved), str(onnx_path)).bits
        pack_ir_weights(model, {name: weight_bits for name, (weight_bits, _) in policy.items()})
    versions = json.loads(metadata.pop(VERSIONS_KEY, "{}"))
    metadata[VERSIONS_KEY] = json.dumps({**versions, "openvino": ov.get_version()})
    for key in (POLICY_KEY, VERSIONS_KEY, DIGEST_KEY):
        if key in metadata:
            model.set_rt_info(metadata[key], key.split("."))
    # fp16 compression would round the step sizes.
    ov.save_model(model, str(xml_path), compress_to_fp16=False)
    # A fifth of the .xml is white space.
    xml_path.write_bytes(re.sub(rb">\s+<", b"><", xml_path.read_bytes()))
