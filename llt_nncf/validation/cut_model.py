"""
A model cut at the codes of every quantizer: what makes them ends in an output, what reads them reads an input instead.

Fed with the codes that PyTorch computed, every layer of it shows what it does by itself, all in one run.
"""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence

import onnx
import openvino as ov
from onnx import TensorProto
from onnx import helper
from openvino import opset13

# Tensor ``<codes>`` is the output of a cut, ``<codes>/fed`` the input.
FED_SUFFIX = "/fed"


def cut_onnx(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """
    Returns a cut copy of an exported model.

    :param model: The file's content.
    :param shapes: Tensor of uint8 codes to its shape for the samples that will be fed.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    # What is known of shapes is known for any number of samples; the fed codes have a fixed one.
    del cut.graph.value_info[:]
    for node in cut.graph.node:
        for index, name in enumerate(node.input):
            if name in shapes:
                node.input[index] = name + FED_SUFFIX
    for name, shape in shapes.items():
        cut.graph.input.append(helper.make_tensor_value_info(name + FED_SUFFIX, TensorProto.UINT8, shape))
        cut.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
    return cut


def cut_openvino(model: ov.Model, names: Collection[str]) -> None:
    """
    Cuts a model that OpenVINO has read, in place.

    :param model: Read from an ``.xml`` or ``.onnx`` file.
    :param names: Its tensors of uint8 codes.
    """
    outputs = {name: output for name, output in _outputs(model) if name in names}
    parameters = []
    for name, output in outputs.items():
        parameter = opset13.parameter(output.get_partial_shape(), output.get_element_type(), name=name + FED_SUFFIX)
        parameter.output(0).set_names({name + FED_SUFFIX})
        for reader in output.get_target_inputs():
            reader.replace_source_output(parameter.output(0))
        parameters.append(parameter)
    model.add_parameters(parameters)
    model.add_outputs(list(outputs.values()))


def _outputs(model: ov.Model) -> list[tuple[str, ov.Output]]:
    return [
        (name, output)
        for operation in model.get_ordered_ops()
        for output in operation.outputs()
        for name in output.get_names()
    ]
