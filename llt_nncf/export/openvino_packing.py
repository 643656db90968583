"""
Weights of an OpenVINO model in the types of 1, 2, 3, 4 and 6 bits that it has.

The engine makes int8 weights of them when it loads the file. Without the conversion to i8 it would run the layer in
f32, and two planes can only be put together in f32 (2026.4.1).
"""

from collections.abc import Mapping
from functools import reduce

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from llt_nncf.export.openvino_folding import is_integer_weights
from llt_nncf.export.packing import count_from_lowest

# Widths of the types whose values make up a code, the low bits first.
_PLANES = {1: (1,), 2: (2,), 3: (3,), 4: (4,), 5: (4, 1), 6: (6,), 7: (6, 1)}


def pack_ir_weights(model: ov.Model, weight_bits: Mapping[str, int]) -> None:
    """
    Stores the int8 constants ``<layer>/codes`` at their bits, in place.

    The tensor of that name is then the result of unpacking, with the same values.

    :param model: With folded constants.
    :param weight_bits: Layer to bits; codes that need more, and layers that are not there, are stored at what they
        need.
    """
    layers = {f"{layer}/codes": num_bits for layer, num_bits in weight_bits.items()}
    for node in model.get_ordered_ops():
        if not is_integer_weights(node):
            continue
        names = node.output(0).get_names()
        num_bits = next((layers[name] for name in names if name in layers), 2)
        codes = node.data
        offsets, lowest, stored_bits = count_from_lowest(codes, num_bits, _channel_axis(node))
        if stored_bits > 7:
            continue
        is_int4 = stored_bits == 4 and codes.min() >= -8 and codes.max() <= 7
        unpacked = _signed(codes) if is_int4 else _unpacked(offsets, lowest, stored_bits)
        unpacked.set_friendly_name(node.get_friendly_name())
        unpacked.output(0).set_names(names)
        node.output(0).replace(unpacked.output(0))


def _channel_axis(codes: ov.Node) -> int:
    """The axis along which the step sizes differ that the codes are multiplied by; any if there is one step size."""
    convert = next(iter(codes.output(0).get_target_inputs())).get_node()
    multiply = next(iter(convert.output(0).get_target_inputs())).get_node()
    shape = list(multiply.input_value(1).get_shape())
    return int(np.argmax(shape)) if shape else 0


def _signed(codes: np.ndarray) -> ov.Node:
    return ops.convert(ops.constant(codes, ov.Type.i4), ov.Type.i8)


def _unpacked(offsets: np.ndarray, lowest: np.ndarray, num_bits: int) -> ov.Node:
    planes, shift = [], 0
    for width in _PLANES[num_bits]:
        plane = ((offsets >> shift) % 2**width).astype(np.uint8)
        value = ops.convert(ops.constant(plane, getattr(ov.Type, f"u{width}")), ov.Type.f32)
        planes.append(ops.multiply(value, np.float32(2**shift)) if shift else value)
        shift += width
    return ops.convert(ops.add(reduce(ops.add, planes), lowest.astype(np.float32)), ov.Type.i8)
