"""
Takes out of a model what OpenVINO's ONNX reader computes from constants alone: two thirds of all operations.

The engine would do so too, each time that it loads the file, and with it fold the integer weights if it were told to.
"""

import numpy as np
import openvino as ov
from openvino import op

# Constants up to this size are looked through for equal ones.
_MOST_BYTES_TO_SHARE = 4096


def fold_constants(model: ov.Model) -> None:
    """
    Replaces operations on constants by their results, and lets equal small constants be one, in place.

    What brings integer weights back to real numbers stays, since integer kernels are recognised by it.

    :param model: As read from an exported ONNX file.
    """
    for node in model.get_ordered_ops():
        if _subtracts_nothing(node):
            node.output(0).replace(node.input_value(0))
            continue
        for output, array in zip(node.outputs(), _results(node), strict=False):
            constant = op.Constant(np.array(array, order="C"))
            constant.set_friendly_name(node.get_friendly_name())
            constant.output(0).set_names(output.get_names())
            output.replace(constant.output(0))
    _share_constants(model)


def is_integer_weights(node: ov.Node) -> bool:
    """Whether a node is a constant of int8 weights."""
    return _is_constant(node) and node.get_element_type() == ov.Type.i8 and len(node.get_shape()) > 1


def _results(node: ov.Node) -> list[np.ndarray]:
    """What the outputs of a node are if that is known, else nothing."""
    kind, inputs = node.get_type_name(), [value.get_node() for value in node.input_values()]
    if kind == "ShapeOf" and node.get_input_partial_shape(0).is_static:
        return [np.array(node.get_input_shape(0), node.get_output_element_type(0).to_dtype())]
    if not inputs or not _is_constant(inputs[0]):
        return []
    if kind == "Convert" and is_integer_weights(inputs[0]) and node.get_output_element_type(0) == ov.Type.f32:
        return []
    if all(map(_is_constant, inputs)):
        tensors = [ov.Tensor(output.get_element_type(), output.get_shape()) for output in node.outputs()]
        is_known = node.evaluate(tensors, [ov.Tensor(np.array(constant.data)) for constant in inputs])
        return [tensor.data for tensor in tensors] if is_known else []
    # A bias takes the rank of what it is added to, whose batch is open.
    if kind == "Reshape" and node.get_output_partial_shape(0).is_static:
        return [inputs[0].data.reshape(node.get_output_shape(0))]
    return []


def _subtracts_nothing(node: ov.Node) -> bool:
    """Whether a node subtracts a zero point of 0 from something that is no output of the model."""
    if node.get_type_name() != "Subtract" or not _is_constant(node.input_value(1).get_node()):
        return False
    is_output = any(target.get_node().get_type_name() == "Result" for target in node.output(0).get_target_inputs())
    return not is_output and not np.any(node.input_value(1).get_node().data)


def _share_constants(model: ov.Model) -> None:
    known: dict[tuple[str, tuple[int, ...], bytes], ov.Node] = {}
    for node in model.get_ordered_ops():
        if _is_constant(node) and node.data.nbytes <= _MOST_BYTES_TO_SHARE and not is_integer_weights(node):
            key = (node.get_element_type().to_string(), tuple(node.get_shape()), node.data.tobytes())
            first = known.setdefault(key, node)
            if first is not node:
                node.output(0).replace(first.output(0))


def _is_constant(node: ov.Node) -> bool:
    return node.get_type_name() == "Constant"
