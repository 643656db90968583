"""Keeps OpenVINO from leaving out the rounding of a quantizer between a convolution and a residual addition."""

from collections import Counter

import onnx
from onnx import helper

_ROUNDED_BY = ("Conv", "ConvTranspose")


def keep_rounding_before_additions(model: onnx.ModelProto) -> int:
    """
    Puts a max pooling over a single element behind every such quantizer, in place.

    OpenVINO's CPU plugin fuses convolution, quantizer and addition into one kernel that clamps to the quantizer's range
    but does not round to its grid (measured with 2026.4.1; the outputs then differ from those of PyTorch and ONNX
    Runtime). The pooling changes no value, works on the integer codes, and is not fused: the addition then reads codes.

    :param model: A lowered model: QuantizeLinear, Clip, DequantizeLinear.
    :return: Number of quantizers that were guarded.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    guarded = 0
    for addition in [node for node in graph.node if node.op_type == "Add"]:
        for name in addition.input:
            dequantize = producers.get(name)
            convolution = _convolution_behind(dequantize, producers)
            # Codes that something else reads too cannot vanish inside a fused kernel.
            if dequantize is None or convolution is None or max(readers[name], readers[dequantize.input[0]]) > 1:
                continue
            codes = dequantize.input[0]
            kernel = next(attribute for attribute in convolution.attribute if attribute.name == "kernel_shape")
            shape = [1] * len(kernel.ints)
            guard = helper.make_node(
                "MaxPool", [codes], [f"{codes}/rounded"], name=f"{codes}/rounded", kernel_shape=shape
            )
            graph.node.insert(list(graph.node).index(dequantize), guard)
            dequantize.input[0] = guard.output[0]
            guarded += 1
    return guarded


def _convolution_behind(
    dequantize: onnx.NodeProto | None, producers: dict[str, onnx.NodeProto]
) -> onnx.NodeProto | None:
    """The convolution whose output ``dequantize`` brings back from codes, if there is one."""
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    node = producers.get(dequantize.input[0])
    while node is not None and node.op_type in ("Clip", "QuantizeLinear"):
        node = producers.get(node.input[0])
    return node if node is not None and node.op_type in _ROUNDED_BY else None
