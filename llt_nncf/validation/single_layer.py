"""One layer of an ONNX model as a model of its own, in integers as it is exported, or in float."""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper

from llt_nncf.errors import ValidationFailedError

FORMS = ("float", "int8", "int8 clamped")

# A convolution with one output channel that stands beside some layers; its time is none of theirs.
SECOND_READER = "second"

_LAYER_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_STEP_SIZE = np.float32(0.05)
_CONSTANTS: dict[str, np.ndarray | np.generic] = {
    "step": _STEP_SIZE,
    "output_step": np.float32(1.0),
    "zero": np.uint8(0),
    "weight_zero": np.int8(0),
    "low": np.uint8(0),
    "high": np.uint8(15),
}


@dataclass(frozen=True)
class SingleLayer:
    """
    A layer cut out of a model.

    :param node: The node, with its attributes.
    :param input_shape: For one sample.
    :param weight_shape: Of its second input.
    :param output_shape: For one sample.
    """

    node: onnx.NodeProto
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def cut_out_layers(onnx_path: Path | str, names: Collection[str]) -> dict[str, SingleLayer]:
    """
    Finds layers by name in an exported model of this package, or in one that PyTorch's exporter wrote.

    :param onnx_path: The model; dimensions that it leaves open are taken for 1.
    :param names: Names of the modules.
    :return: Those that were found.
    :raises ValidationFailedError: If the file is missing or no ONNX model.
    """
    try:
        model = onnx.load(onnx_path)
        for entry in model.graph.input:
            for dimension in entry.type.tensor_type.shape.dim:
                if not dimension.dim_value:
                    dimension.dim_value = 1
        # Not onnx's own inference: it loses the shapes behind a reshape to a shape that is computed.
        parsed = ov.Core().read_model(model.SerializeToString())
    except Exception as error:  # onnx raises protobuf's errors and its own, OpenVINO its own, and OSError.
        msg = f"{onnx_path}: cannot be read as ONNX: {error}"
        raise ValidationFailedError(msg) from error
    outputs = [output for operation in parsed.get_ops() for output in operation.outputs()]
    shapes = {name: output.partial_shape for output in outputs for name in output.get_names()}
    shapes = {name: tuple(shape.to_shape()) for name, shape in shapes.items() if shape.is_static}
    shapes |= {initializer.name: tuple(initializer.dims) for initializer in model.graph.initializer}
    result = {}
    for node in model.graph.node:
        name = node.name if node.name in names else _module_name(node.name)
        if node.op_type in _LAYER_OPS and name in names and name not in result:
            known = [shapes.get(tensor, ()) for tensor in (node.input[0], node.input[1], node.output[0])]
            if all(known) and all(map(all, known)):
                result[name] = SingleLayer(node, *known)
    return result


def single_layer_model(layer: SingleLayer, form: str) -> bytes:
    """
    Builds the model, with random weights.

    :param layer: The layer.
    :param form: ``float``; ``int8``, from and to uint8 codes, as between two layers of an exported model; ``int8
        clamped``, where a quantizer of fewer than 8 bits clips these codes first.
    :return: Serialized ONNX. Its input is ``x``, its layer is named ``layer``.
    """
    codes = np.random.default_rng(0).integers(-63, 64, layer.weight_shape).astype(np.int8)
    node = onnx.NodeProto()
    node.CopyFrom(layer.node)
    del node.input[:], node.output[:]
    node.name = "layer"
    if form == "float":
        node.input.extend(["x", "weights"])
        node.output.append("y")
        return _serialized([node], {"weights": codes * _STEP_SIZE}, TensorProto.FLOAT, layer, {"y": layer.output_shape})
    node.input.extend(["inputs", "weights"])
    node.output.append("sums")
    clip = [helper.make_node("Clip", ["x", "low", "high"], ["clipped"])] if form == "int8 clamped" else []
    nodes = [
        *clip,
        helper.make_node("DequantizeLinear", ["clipped" if clip else "x", "step", "zero"], ["inputs"]),
        helper.make_node("DequantizeLinear", ["layer/codes", "step", "weight_zero"], ["weights"]),
        node,
        helper.make_node("QuantizeLinear", ["sums", "output_step", "zero"], ["y"]),
    ]
    constants, outputs = {"layer/codes": codes, **_CONSTANTS}, {"y": layer.output_shape}
    if _is_strided_pointwise(layer):
        constants["second/codes"] = codes.reshape(-1)[: layer.input_shape[1]].reshape(1, -1, 1, 1)
        outputs["second/y"] = (1, 1, *layer.input_shape[2:])
        nodes += [
            helper.make_node("DequantizeLinear", ["second/codes", "step", "weight_zero"], ["second/weights"]),
            helper.make_node("Conv", ["inputs", "second/weights"], ["second/sums"], name=SECOND_READER),
            helper.make_node("QuantizeLinear", ["second/sums", "output_step", "zero"], ["second/y"]),
        ]
    return _serialized(nodes, constants, TensorProto.UINT8, layer, outputs)


def _serialized(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray | np.generic],
    element: int,
    layer: SingleLayer,
    outputs: Mapping[str, tuple[int, ...]],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", element, layer.input_shape)],
        [helper.make_tensor_value_info(name, element, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def _is_strided_pointwise(layer: SingleLayer) -> bool:
    """
    Whether OpenVINO (2026.4.1) would run the layer alone in float, because it skips pixels in front of it, and loses
    the quantization on the way. In a model another branch of the block reads the same input, and keeps it from that.
    """
    strides = [value for attribute in layer.node.attribute if attribute.name == "strides" for value in attribute.ints]
    return layer.node.op_type == "Conv" and set(layer.weight_shape[2:]) == {1} and max(strides, default=1) > 1


def _module_name(path: str) -> str:
    """
    Returns the module that PyTorch's exporter named a node after.

    >>> _module_name("/layer1/layer1.0/conv1/Conv")
    'layer1.0.conv1'
    """
    parts: list[str] = []
    for part in path.split("/")[1:-1]:
        if parts and part.startswith(parts[-1] + "."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)
