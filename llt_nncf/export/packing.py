"""
Weights stored at their bits: planes of 1, 2 and 4 bits in uint8, and standard nodes that put them together again.

ONNX Runtime and OpenVINO compute these nodes once, when they load the file, and go on with the int8 weights of an
unpacked one. ONNX has types of 2 and 4 bits of its own, but none of 3, 5, 6 and 7, and neither engine runs integer
kernels on all that there are (onnxruntime 1.32, openvino 2026.4.1).
"""

from collections.abc import Mapping
from functools import partial
from functools import reduce

import numpy as np
import onnx_ir as ir

from llt_nncf.export.ir_graph import ConstantPool
from llt_nncf.export.ir_graph import constant
from llt_nncf.export.ir_graph import is_op
from llt_nncf.export.ir_graph import producer

# Eight neighbouring codes have the index (i, j, k), each 0 or 1. A plane has one byte for as many of them as its width
# allows, in a shape that broadcasts against its divisors to (2, 2, 2).
_GROUP = 8
_BYTES_OF_GROUP = {4: (2, 2, 1), 2: (2, 1, 1), 1: (1, 1, 1)}

# The nodes that unpack one layer take about as much of the file.
_UNPACKING_BYTES = 512


def pack_weights(graph: ir.Graph, constants: ConstantPool, weight_bits: Mapping[str, int]) -> None:
    """
    Packs the int8 initializers ``<layer>/codes``; the tensors of these names are then computed from the packed ones.

    A layer takes ``num_bits * weight_count / 8`` bytes. Left as they are: layers of 8 bits, and layers so small that
    unpacking would take more of the file than packing saves. The grid of a bias becomes a product of the step sizes
    that are there anyway, and shapes that anyone can infer are left out.

    :param graph: Changed in place; weights are lowered already.
    :param constants: Makes new initializers.
    :param weight_bits: Layer to the bit-width of its policy; codes that need more are stored at what they need.
    """
    unpacking = _Unpacking(graph, constants)
    for layer, num_bits in weight_bits.items():
        value = graph.initializers.get(f"{layer}/codes")
        codes = constant(value)
        if value is None or codes is None:
            continue
        offsets, lowest, stored_bits = count_from_lowest(codes, num_bits, _channel_axis(value))
        if (8 - stored_bits) * codes.size > 8 * _UNPACKING_BYTES:
            del graph.initializers[f"{layer}/codes"]
            unpacking.replace(value, layer, offsets, lowest, stored_bits)
    for node in list(graph):
        unpacking.multiply_bias_grid(node)
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None


def count_from_lowest(codes: np.ndarray, num_bits: int, channel_axis: int) -> tuple[np.ndarray, np.ndarray, int]:
    """
    Returns the codes counted from the smallest one, as they are packed, that smallest code, and the bits they take.

    The smallest is -2**(num_bits - 1), or less if there are such codes, but one more in channels that were negated when
    a batch norm of negative gain was folded: their codes end at 2**(num_bits - 1).

    :param codes: int8 weights.
    :param num_bits: Bit-width of the policy.
    :param channel_axis: The output-channel dimension of ``codes``.
    :return: ``(offsets, lowest, stored_bits)``: offsets from 0 to 2**stored_bits - 1; the smallest code, int16, shape
        ``()``, or one per channel, broadcastable to ``codes``, if there is a negated one; ``num_bits`` or what is
        needed.
    """
    lowest = np.array(min(-(2 ** (num_bits - 1)), int(codes.min())), np.int16)
    others = tuple(axis for axis in range(codes.ndim) if axis != channel_axis)
    has_highest, has_lowest = (np.any(codes == end, axis=others, keepdims=True) for end in (-lowest, lowest))
    is_negated = has_highest & ~has_lowest
    lowest = lowest + is_negated if is_negated.any() else lowest
    offsets = codes - lowest
    return offsets, lowest, max(num_bits, int(offsets.max()).bit_length())


def _channel_axis(codes: ir.Value) -> int:
    """The axis that DequantizeLinear scales the codes along; any if it is a single step size."""
    axis = next(iter(codes.uses())).node.attributes.get("axis")
    return 0 if axis is None else axis.as_int()


class _Unpacking:
    """Puts the nodes that unpack in front of all others."""

    def __init__(self, graph: ir.Graph, constants: ConstantPool):
        self._constants = constants
        self._first = graph[0]
        self._count = 0

    def replace(self, value: ir.Value, layer: str, offsets: np.ndarray, lowest: np.ndarray, num_bits: int) -> None:
        """Lets ``offsets + lowest`` take the place of ``value``, with ``offsets`` (0 to 2**num_bits - 1) packed."""
        total = self._unpacked(layer, offsets, num_bits)
        if offsets.size % _GROUP:
            flat = self._node("Reshape", total, np.array([-1]))
            total = self._node("Slice", flat, np.array([0]), np.array([offsets.size]))
        shaped = self._node("Reshape", total, np.array(offsets.shape))
        start = lowest.astype(np.int32) if lowest.ndim == 0 else self._cast(lowest.astype(np.int8), ir.DataType.INT32)
        codes = self._cast(self._node("Add", shaped, start), ir.DataType.INT8, node_name=f"{layer}/codes")
        codes.shape, codes.type = value.shape, value.type
        value.replace_all_uses_with(codes)
        codes.name = f"{layer}/codes"

    def multiply_bias_grid(self, layer: ir.Node) -> None:
        """Computes the step sizes of the bias of ``layer`` from those of its input and weights, if they are that."""
        if not is_op(layer, "Conv", "ConvTranspose", "Gemm") or len(layer.inputs) < 3:
            return
        x, weight, bias = (producer(value, "DequantizeLinear") for value in layer.inputs)
        if x is None or weight is None or bias is None:
            return
        input_step, weight_step, grid = (constant(dequantize.inputs[1]) for dequantize in (x, weight, bias))
        if input_step is None or weight_step is None or grid is None:
            return
        if np.array_equal(weight_step * input_step, grid):
            bias.replace_input_with(1, self._node("Mul", weight.inputs[1], x.inputs[1]))

    def _unpacked(self, layer: str, offsets: np.ndarray, num_bits: int) -> ir.Value:
        """Stores one plane for each power of two in ``num_bits``, the low bits of the codes in the widest."""
        padded = np.pad(offsets.ravel(), (0, -offsets.size % _GROUP)).astype(np.uint8).reshape(-1, 2, 2, 2)
        planes, shift = [], 0
        for width, shape in _BYTES_OF_GROUP.items():
            if not num_bits & width:
                continue
            shared = tuple(1 + axis for axis, size in enumerate(shape) if size == 1)
            places = width * np.arange(8 // width).reshape([3 - size for size in shape])
            plane = (((padded >> shift) % 2**width) << places).sum(axis=shared, keepdims=True, dtype=np.uint8)
            value = self._cast(self._constants.add(plane, f"{layer}/packed_{width}"), ir.DataType.INT32)
            value = self._node("Mod", self._node("Div", value, 2**places), np.array(2**width))
            planes.append(self._node("Mul", value, np.array(2**shift)) if shift else value)
            shift += width
        return reduce(partial(self._node, "Add"), planes)

    def _node(self, op_type: str, value: ir.Value | None, *others: ir.Value | np.ndarray | None) -> ir.Value:
        number = np.int64 if op_type in ("Reshape", "Slice") else np.int32
        constants = [
            self._constants.share(other.astype(number)) if isinstance(other, np.ndarray) else other for other in others
        ]
        return self._insert(ir.node(op_type, [value, *constants]))

    def _cast(self, value: ir.Value | np.ndarray, element: ir.DataType, *, node_name: str | None = None) -> ir.Value:
        given = self._constants.share(value) if isinstance(value, np.ndarray) else value
        # Engines call the constant that they make of the result after the node.
        return self._insert(ir.node("Cast", [given], {"to": element}, name=node_name))

    def _insert(self, node: ir.Node) -> ir.Value:
        self._first.prepend(node)
        # There are many of them, and their names stand in the file: they are short.
        node.outputs[0].name = f"llt/u{self._count}"
        self._count += 1
        return node.outputs[0]
