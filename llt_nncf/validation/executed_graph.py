"""What the engines make of a model: the nodes that they execute, and whether each computes in integers."""

import re
from collections.abc import Collection
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto

_SUFFIX = "/codes"
_LAYER_KINDS = re.compile("[Cc]onv|Gemm|MatMul|FullyConnected")
# They change type, layout or shape, and compute nothing.
_CONVERSIONS: tuple[str, ...] = ("Cast", "Convert", "DequantizeLinear", "FakeQuantize", "QuantizeLinear", "Reorder")
_CONVERSIONS += ("Const", "Constant", "Input", "Output", "Shape", "ShapeOf")
_MOVEMENTS = ("Concat", "Flatten", "Gather", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
_INTEGER_OPS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger", "MatMulInteger")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True)
class ExecutedNode:
    """
    A node that computes something.

    :param names: Of the nodes of the file that it is made of; for a layer also the layer's.
    :param kind: Operator in the engine's words.
    :param kernel: Operator with its implementation, if the engine names one.
    :param is_integer: Whether it computes in integers, and not in floats.
    """

    names: frozenset[str]
    kind: str
    kernel: str
    is_integer: bool


def kernels_of(layers: Collection[str], nodes: Iterable[ExecutedNode]) -> dict[str, tuple[str, bool]]:
    """Returns layer to (kernel that executes it, whether it computes in integers); lost layers are left out."""
    return {
        layer: (node.kernel, node.is_integer)
        for node in nodes
        if _LAYER_KINDS.search(node.kind)
        for layer in node.names & set(layers)
    }


def onnxruntime_nodes(graph: onnx.GraphProto) -> list[ExecutedNode]:
    """
    Reads the graph that ONNX Runtime saved after optimization.

    The initializer ``<layer>/codes`` survives optimization, the name of a layer's node need not: it takes a suffix, and
    is lost where an activation function is fused. The initializer may be behind a DequantizeLinear that could not be
    fused.

    :param graph: The optimized graph.
    """
    initializers = {tensor.name: tensor.data_type for tensor in graph.initializer}
    is_float = {name: kind in _FLOATS for name, kind in initializers.items()}
    is_float |= {value.name: value.type.tensor_type.elem_type in _FLOATS for value in graph.input}
    producers = {name: node for node in graph.node for name in node.output}
    result = []
    for node in graph.node:
        reads_floats = is_float.get(node.input[0], False) if node.input else False
        is_float |= dict.fromkeys(node.output, _writes_floats(node, reads_floats))
        if node.op_type in _CONVERSIONS or (node.op_type in _MOVEMENTS and not reads_floats):
            continue
        names = {re.sub(r"_token_\d+$", "", node.name)}
        for name in node.input:
            while name in producers and producers[name].op_type in ("DequantizeLinear", "Transpose", "Cast"):
                name = producers[name].input[0]
            if name in initializers and name.endswith(_SUFFIX):
                names.add(name.removesuffix(_SUFFIX))
        is_integer = node.op_type in _INTEGER_OPS or not reads_floats
        result.append(ExecutedNode(frozenset(names), node.op_type, node.op_type, is_integer))
    return result


def _writes_floats(node: onnx.NodeProto, reads_floats: bool) -> bool:
    if node.op_type in ("DequantizeLinear", "MatMulIntegerToFloat"):
        return True
    if node.op_type == "QGemm":
        # The last two inputs are the grid of an output in codes.
        return len(node.input) < 9 or not node.input[7]
    if node.op_type == "Cast":
        return any(attribute.name == "to" and attribute.i in _FLOATS for attribute in node.attribute)
    return reads_floats and node.op_type not in ("QuantizeLinear", "Shape", "ArgMax")


def openvino_nodes(model: Any) -> list[ExecutedNode]:
    """
    Reads OpenVINO's executed graph.

    Its nodes list the names of the nodes that they are made of; a layer may have an ending there for a part of it. One
    that computes a graph output goes by the name of that output, but the constant that it reads may still be
    ``<layer>/codes``.

    :param model: What ``get_runtime_model`` returns.
    """
    result = []
    for operation in model.get_ordered_ops():
        kind, primitive, precision, names = _executed(operation)
        if kind in (*_CONVERSIONS, *_MOVEMENTS) or precision.startswith(("i32", "i64", "boolean")):
            continue
        if _LAYER_KINDS.search(kind):
            names |= _names_of_weights(operation)
        names |= {re.sub(f"(/WithoutBiases)?(/DequantizationMultiply)?$|{_SUFFIX}$", "", name) for name in names}
        is_integer = precision in ("u8", "i8") or primitive.lower().endswith(("i8", "u8"))
        result.append(ExecutedNode(frozenset(names), kind, f"{kind} {primitive}", is_integer))
    return result


def _executed(operation: Any) -> tuple[str, str, str, set[str]]:
    info = operation.get_rt_info()
    keys = ("layerType", "primitiveType", "runtimePrecision", "originalLayersNames")
    kind, primitive, precision, names = (info[key].astype(str) if key in info else "" for key in keys)
    return kind, primitive, precision, set(names.split(","))


def _names_of_weights(operation: Any) -> set[str]:
    """Names of the constant that is a layer's second input, possibly reordered on the way."""
    source = operation.input_value(1).get_node() if operation.get_input_size() > 1 else None
    while (
        source is not None and source.get_input_size() and _executed(source)[0] in ("Reorder", "Reshape", "Transpose")
    ):
        source = source.input_value(0).get_node()
    return set() if source is None else _executed(source)[3] | {source.get_friendly_name()}
