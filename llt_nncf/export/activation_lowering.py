"""Activation quantizers as QuantizeLinear, Clip on the integer codes, DequantizeLinear: "QCDQ"."""

from collections import Counter

import numpy as np
import onnx_ir as ir

from llt_nncf.errors import ExportError
from llt_nncf.export.ir_graph import ConstantPool
from llt_nncf.export.ir_graph import attributes
from llt_nncf.export.ir_graph import constant
from llt_nncf.export.ir_graph import describe
from llt_nncf.export.ir_graph import insert_before
from llt_nncf.export.ir_graph import is_op
from llt_nncf.export.ir_graph import producer
from llt_nncf.export.ir_graph import replace
from llt_nncf.functional import integer_range

# ONNX Runtime runs integer kernels only where all activations are uint8, so signed codes are stored with this offset.
SIGNED_ZERO_POINT = 128

# Note on a Clip that leaves fewer codes than the bit-width has, because of the bounds of a Relu, Relu6 or the like.
NARROWED = "narrowed by the bounds of the activation function"

# They move elements or pick the largest or smallest, so they commute with dequantization.
_MOVEMENTS: tuple[str, ...] = ("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad")
_MOVEMENTS += ("ReduceMax", "ReduceMin", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile")
_MOVEMENTS += ("Transpose", "Unsqueeze")


def lower_activations(graph: ir.Graph, constants: ConstantPool) -> None:
    """
    Writes every ``llt::FakeQuantize`` as QCDQ, and moves dequantization behind ops that only move elements.

    The uint8 codes of quantizer ``name`` are the tensor ``<name>/codes``; the second, third... call of the same
    quantizer in a forward pass gives ``<name>#1/codes``, ``<name>#2/codes``.

    :param graph: Changed in place.
    :param constants: Makes new initializers.
    :raises ExportError: If a quantizer cannot be written exactly; it is named.
    """
    calls: Counter[str] = Counter()
    for node in list(graph):
        if is_op(node, "FakeQuantize", domain="llt"):
            name = str(attributes(node)["name"])
            _write_qcdq(node, constants, f"{name}#{calls[name]}" if calls[name] else name)
            calls[name] += 1
    for node in list(graph):
        _pad_codes(node, constants)
        _dequantize_late(node)
    for node in list(graph):
        _keep_in_float(node, constants)


def _write_qcdq(node: ir.Node, constants: ConstantPool, name: str) -> None:
    num_bits, signed = int(attributes(node)["num_bits"]), bool(attributes(node)["signed"])
    step_size = constant(node.inputs[1])
    if step_size is None or step_size.size != 1 or not 0 < step_size.item() < np.inf:
        found = "computed in the graph" if step_size is None else f"{step_size.ravel()[:4]} of shape {step_size.shape}"
        msg = f"{describe(node)}: an activation quantizer needs one constant positive step size, and this is {found}."
        raise ExportError(msg)
    step_size = step_size.reshape(()).astype(np.float32)
    low, high = full_range = integer_range(num_bits, signed=signed)
    x = node.inputs[0]
    # Rounding is monotone: bounds in front of the quantizer become bounds on its codes, and saturation does the rest.
    activation = producer(x, "Relu", "Clip")
    bounds = activation and _bounds(activation)
    if activation is not None and bounds is not None and _is_only_quantized(activation.outputs[0]):
        codes_of_bounds = np.rint(np.asarray(bounds, np.float32) / step_size)
        low, high = (int(code) for code in np.clip(codes_of_bounds, low, high))
        x = activation.inputs[0]
    zero_point = SIGNED_ZERO_POINT if signed else 0
    grid = [constants.share(step_size), constants.share(np.array(zero_point, np.uint8))]
    codes = insert_before(node, "QuantizeLinear", [x, *grid], name=f"{name}/quantize")
    if (low + zero_point, high + zero_point) != (0, 255):
        limits = [constants.share(np.array(code + zero_point, np.uint8)) for code in (low, high)]
        codes = insert_before(node, "Clip", [codes, *limits], name=f"{name}/clip")
        if (low, high) != full_range and (clip := codes.producer()):
            clip.doc_string = NARROWED
    codes.name = f"{name}/codes"
    replace(node, insert_before(node, "DequantizeLinear", [codes, *grid], name=f"{name}/dequantize"))


def _is_only_quantized(value: ir.Value) -> bool:
    return not value.is_graph_output() and all(is_op(use.node, "FakeQuantize", domain="llt") for use in value.uses())


def _bounds(activation: ir.Node) -> tuple[float, float] | None:
    """Returns the bounds of a Relu or Clip node, ``None`` if they are not constant."""
    if activation.op_type == "Relu":
        return 0.0, np.inf
    given = [*activation.inputs[1:3], None, None][:2]
    arrays = [constant(value) for value in given]
    if any(array is None and value is not None for array, value in zip(arrays, given, strict=True)):
        return None
    low, high = (
        default if array is None else float(array.item())
        for array, default in zip(arrays, (-np.inf, np.inf), strict=True)
    )
    return low, high


def _pad_codes(node: ir.Node, constants: ConstantPool) -> None:
    """
    Lets zero padding work on codes, whose zero is the zero point; that of an average pooling is a node of its own then.

    OpenVINO (2026.4.1) counts the padding of an average over signed codes as the smallest code, and not as zero.
    """
    dequantize = producer(node.inputs[0], "DequantizeLinear") if is_op(node, "Pad", "AveragePool") else None
    if dequantize is None:
        return
    zero_point = dequantize.inputs[2]
    if is_op(node, "Pad"):
        if node.outputs[0].is_graph_output():
            return
        fill = node.inputs[2] if len(node.inputs) > 2 else None
        array = np.zeros(1) if fill is None else constant(fill)
        if attributes(node).get("mode", "constant") == "constant" and array is not None and not array.any():
            # _dequantize_late puts it in front of the dequantization.
            node.resize_inputs(max(3, len(node.inputs)))
            node.replace_input_with(2, zero_point)
        return
    pads = np.asarray(attributes(node).get("pads", ()), np.int64)
    if pads.any() and attributes(node).get("count_include_pad", 0):
        begin, end = np.split(pads, 2)
        all_pads = constants.share(np.concatenate([[0, 0], begin, [0, 0], end]).astype(np.int64))
        padded = insert_before(node, "Pad", [dequantize.inputs[0], all_pads, zero_point], name=f"{node.name}/pad")
        late = insert_before(node, "DequantizeLinear", [padded, *dequantize.inputs[1:]], name=f"{node.name}/dequantize")
        node.replace_input_with(0, late)
        node.attributes["pads"] = ir.AttrInt64s("pads", np.zeros_like(pads).tolist())


def _dequantize_late(node: ir.Node) -> None:
    """
    Lets an op that only moves elements work on the codes, so that the layer behind it reads a DequantizeLinear.

    A Concat needs inputs of one grid. ``Shape`` is asked of the codes too: then they have no other float reader.
    """
    if is_op(node, "Shape"):
        if dequantize := producer(node.inputs[0], "DequantizeLinear"):
            node.replace_input_with(0, dequantize.inputs[0])
        return
    if not is_op(node, *_MOVEMENTS) or any(value.is_graph_output() for value in node.outputs):
        return
    data = list(node.inputs) if node.op_type == "Concat" else list(node.inputs[:1])
    dequantizes = [producer(value, "DequantizeLinear") for value in data]
    grids = {tuple(dequantize.inputs[1:]) if dequantize else None for dequantize in dequantizes}
    grid = grids.pop()
    if grid is None or grids or not _moves_codes(node, dequantizes[0]):
        return
    for index, dequantize in enumerate(dequantizes):
        node.replace_input_with(index, dequantize.inputs[0] if dequantize else None)
    for value in node.outputs:
        uses = list(value.uses())
        new = ir.node("DequantizeLinear", [value, *grid], name=f"{value.name}/dequantize")
        new.outputs[0].name = f"{value.name}/dequantized"
        new.outputs[0].shape, new.outputs[0].type = value.shape, value.type
        value.type = ir.TensorType(ir.DataType.UINT8)
        node.append(new)
        for use in uses:
            use.node.replace_input_with(use.idx, new.outputs[0])


def _moves_codes(node: ir.Node, dequantize: ir.Node | None) -> bool:
    """Whether this use of an op that may move elements does so, and is better done on codes."""
    if node.op_type == "MaxPool":
        return len(node.outputs) == 1  # The second output is positions.
    if node.op_type == "Resize":
        return attributes(node).get("mode", "nearest") == "nearest"
    if node.op_type == "Pad":
        fill = node.inputs[2] if len(node.inputs) > 2 else None
        return dequantize is not None and (
            attributes(node).get("mode", "constant") != "constant" or fill is dequantize.inputs[2]
        )
    # OpenVINO runs a convolution in float if its codes are transposed right behind their quantizer (measured with
    # 2026.4.1). ONNX Runtime moves the dequantization there by itself.
    is_fresh = dequantize is not None and producer(dequantize.inputs[0], "QuantizeLinear", "Clip") is not None
    feeds_convolution = any(is_op(use.node, "Conv", "ConvTranspose") for use in node.outputs[0].uses())
    return not (node.op_type == "Transpose" and is_fresh and feeds_convolution)


def _keep_in_float(node: ir.Node, constants: ConstantPool) -> None:
    """
    Keeps ONNX Runtime (1.32) from what it does wrong between quantizers, by the float kernel.

    It rounds a layer's float weights to int8, and divides averages by the wrong count where a pooling in ceil mode
    leaves the input. It looks for a DequantizeLinear directly in front; twice the step size, halved again, are the same
    numbers.
    """
    is_pooling = is_op(node, "AveragePool") and attributes(node).get("ceil_mode", 0)
    is_layer = is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul") and constant(node.inputs[1]) is not None
    dequantize = producer(node.inputs[0], "DequantizeLinear") if is_pooling or is_layer else None
    step_size = constant(dequantize.inputs[1]) if dequantize else None
    if dequantize is None or step_size is None:
        return
    name = node.name or node.op_type
    grid = [constants.share(step_size * np.float32(2)), dequantize.inputs[2]]
    doubled = insert_before(node, "DequantizeLinear", [dequantize.inputs[0], *grid], name=f"{name}/doubled")
    half = constants.share(np.array(0.5, np.float32))
    node.replace_input_with(0, insert_before(node, "Mul", [doubled, half], name=f"{name}/halved"))
