"""OpenVINO's own format, converted from the exported ONNX file."""

import json
import tempfile
from pathlib import Path

import openvino as ov

from llt_nncf.artifacts import DIGEST_KEY
from llt_nncf.artifacts import NARROWED_KEY
from llt_nncf.artifacts import POLICY_KEY
from llt_nncf.artifacts import VERSIONS_KEY
from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ExportError
from llt_nncf.export.activation_lowering import NARROWED
from llt_nncf.export.model_files import read_onnx
from llt_nncf.export.model_files import read_openvino
from llt_nncf.export.model_files import save_onnx
from llt_nncf.export.model_files import save_openvino
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
    the digest there is that of the ONNX file. ``narrowed`` lists quantizers whose codes an activation function bounds.

    :param onnx_path: Written by ``export_onnx``, packed or not.
    :param xml_path: Ends in ``.xml``; the ``.bin`` stands beside it. Both appear when both are complete.
    :param packed: Stores the weights at the bits of the policy that the ONNX file carries, without a policy at those
        that they need, and the ``.xml`` as short as OpenVINO reads it.
    :return: ``xml_path``.
    :raises ExportError: If the name is not an ``.xml`` file's, or the ONNX file cannot be read.
    """
    onnx_path, xml_path = Path(onnx_path), Path(xml_path)
    if xml_path.suffix != ".xml":
        msg = f"{xml_path}: an OpenVINO model's file name ends in .xml."
        raise ExportError(msg)
    proto = read_onnx(onnx_path)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    narrowed = [node.output[0].removesuffix("/codes") for node in proto.graph.node if node.doc_string == NARROWED]
    clip_before_rounding(proto)
    keep_rounding_before_additions(proto)
    with tempfile.TemporaryDirectory() as folder:
        # Not ov.convert_model: its simplifications tear the weights' dequantization apart, and convolutions that run in
        # int8 from the ONNX file would run in f32 from the .xml (2026.4.1).
        model = read_openvino(save_onnx(proto, Path(folder) / onnx_path.name, check=False))
        fold_constants(model)
        if packed:
            saved = metadata.get(POLICY_KEY)
            bits = {} if saved is None else BitPolicy.from_json(saved, f"{onnx_path}, metadata").bits
            pack_ir_weights(model, {name: weight_bits for name, (weight_bits, _) in bits.items()})
        versions = {**json.loads(metadata.pop(VERSIONS_KEY, "{}")), "openvino": ov.get_version()}
        metadata[VERSIONS_KEY] = json.dumps(versions)
        metadata[NARROWED_KEY] = json.dumps(narrowed)
        for key in (POLICY_KEY, VERSIONS_KEY, DIGEST_KEY, NARROWED_KEY):
            if key in metadata:
                model.set_rt_info(metadata[key], key.split("."))
        return save_openvino(model, xml_path, minified=packed)
