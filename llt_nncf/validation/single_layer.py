"""One layer of an ONNX model as a model of its own, in integers as it is exported, or in float."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper

from llt_nncf.errors import ValidationFailedError

FORMS = ("float", "int8", "int8 clamped")

# A convolution with one output channel that stands beside some layers; its time is none of theirs.
SECOND_READER = "second"

_LAYER_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_STEP_SIZE = np.float32(0.05)


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
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception as error:  # onnx raises protobuf's errors and its own, and OSError.
        msg = f"{onnx_path}: cannot be read as ONNX: {error}"
        raise ValidationFailedError(msg) from error
    shapes = {
        value.name: tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    shapes |= {initializer.name: tuple(initializer.dims) for initializer in graph.initializer}
    result = {}
    for node in graph.node:
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
    generator = np.random.default_rng(0)
    codes = generator.integers(-63, 64, layer.weight_shape).astype(np.int8)
    node = onnx.NodeProto()
    node.CopyFrom(layer.node)
    del node.input[:], node.output[:]
    node.name = "layer"
    node.output.append("y")
    element, constants = (TensorProto.FLOAT, {}) if form == "float" else (TensorProto.UINT8, _constants(codes))
    nodes = [node]
    if form == "float":
        constants["weights"] = codes * _STEP_SIZE
        node.input.extend(["x", "weights"])
    else:
        node.input.extend(["inputs", "weights"])
        node.output[0] = "sums"
        clamp = [helper.make_node("Clip", ["x", "low", "high"], ["clipped"])] if form == "int8 clamped" else []
        nodes = [
            *clamp,
            helper.make_node("DequantizeLinear", ["clipped" if clamp else "x", "step", "zero"], ["inputs"]),
            helper.make_node("DequantizeLinear", ["layer/codes", "step", "weight_zero"], ["weights"]),
            node,
            helper.make_node("QuantizeLinear", ["sums", "output_step", "zero"], ["y"]),
        ]
    outputs = [helper.make_tensor_value_info("y", element, layer.output_shape)]
    if form != "float" and _is_strided_pointwise(layer):
        constants["second/codes"] = codes.reshape(-1)[: layer.input_shape[1]].reshape(1, -1, 1, 1)
        nodes += [
            helper.make_node("DequantizeLinear", ["second/codes", "step", "weight_zero"], ["second/weights"]),
            helper.make_node("Conv", ["inputs", "second/weights"], ["second/sums"], name=SECOND_READER),
            helper.make_node("QuantizeLinear", ["second/sums", "output_step", "zero"], ["second/y"]),
        ]
        shape = (1, 1, *layer.input_shape[2:])
        outputs.append(helper.make_tensor_value_info("second/y", element, shape))
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", element, layer.input_shape)],
        outputs,
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


def _constants(codes: np.ndarray) -> dict[str, np.ndarray | np.generic]:
    return {
        "layer/codes": codes,
        "weight_zero": np.int8(0),
        "step": _STEP_SIZE,
        "output_step": np.float32(1.0),
        "zero": np.uint8(0),
        "low": np.uint8(0),
        "high": np.uint8(15),
    }


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
