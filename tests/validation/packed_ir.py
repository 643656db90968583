"""An OpenVINO model whose weights are packed by hand, in planes of the types that the format has."""

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

# Bits -> types of the planes, the one with the low bits first.
PLANES = {2: ("u2",), 3: ("u3",), 4: ("u4",), 5: ("u4", "u1"), 6: ("u6",), 7: ("u6", "u1")}


def pack_ir(xml_path: Path, packed_path: Path, bits: dict[str, int]) -> Path:
    """
    Writes a copy in which the weights of each layer in ``bits`` are computed from that many bits.

    The negated lowest code that the frozen models of the tests have does not fit, and becomes the highest.
    """
    model = ov.Core().read_model(xml_path)
    for operation in model.get_ordered_ops():
        layer = operation.get_friendly_name().removesuffix("/codes")
        if operation.get_type_name() != "Constant" or layer not in bits:
            continue
        offset = 2 ** (bits[layer] - 1)
        rest = np.clip(operation.data.astype(np.int64), -offset, offset - 1) + offset
        total, weight = None, 1
        for kind in PLANES[bits[layer]]:
            levels = 2 ** int(kind[1:])
            stored = ops.constant(rest % levels, dtype=getattr(ov.Type, kind))
            plane = ops.multiply(ops.convert(stored, "f32"), np.float32(weight))
            total = plane if total is None else ops.add(total, plane)
            rest, weight = rest // levels, weight * levels
        codes = ops.convert(ops.subtract(total, np.float32(offset)), "i8")
        names, readers = operation.output(0).get_names(), operation.output(0).get_target_inputs()
        operation.output(0).set_names(set())
        codes.output(0).set_names(names)
        for reader in readers:
            reader.replace_source_output(codes.output(0))
    ov.save_model(model, packed_path, compress_to_fp16=False)
    return packed_path
