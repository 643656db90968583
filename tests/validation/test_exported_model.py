"""What a file says is read back, packed or not, and a file that says two things is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper

from llt_nncf.artifacts import DIGEST_KEY
from llt_nncf.errors import ArtifactError
from llt_nncf.validation import validate
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.loadable import loadable
from llt_nncf.validation.runners import OnnxRuntimeRunner


def pack(proto, layer):
    """Has the codes of a layer (-8..8) computed from 4 bits and 1 bit of uint8: ``code + 8 = low + 16 * high``."""
    name, graph = f"{layer}/codes", proto.graph
    (tensor,) = (tensor for tensor in graph.initializer if tensor.name == name)
    codes = numpy_helper.to_array(tensor).astype(np.int64)
    graph.initializer.remove(tensor)
    shifted = (codes + 8).ravel()
    nodes = []
    for plane, values, bits in (("low", shifted % 16, 4), ("high", shifted // 16, 1)):
        per_byte = 8 // bits
        weights = 2 ** (bits * np.arange(per_byte))
        packed = (np.resize(values, (-(-values.size // per_byte), per_byte)) * weights).sum(1, keepdims=True)
        constants = {"packed": packed.astype(np.uint8), "divisors": weights.astype(np.int32)}
        constants |= {"base": np.int32(2**bits), "flat": np.array([-1]), "end": np.array([values.size])}
        constants |= {"zero": np.array([0]), "factor": np.int32(1 if plane == "low" else 16)}
        for key, array in constants.items():
            graph.initializer.append(numpy_helper.from_array(np.asarray(array), f"{name}/{plane}/{key}"))
        for op, *inputs in (
            ("Cast", "packed"),
            ("Div", "Cast", "divisors"),
            ("Mod", "Div", "base"),
            ("Reshape", "Mod", "flat"),
            ("Slice", "Reshape", "zero", "end"),
            ("Mul", "Slice", "factor"),
        ):
            kwargs = {"to": TensorProto.INT32} if op == "Cast" else {}
            inputs = [f"{name}/{plane}/{source}" for source in inputs]
            nodes.append(helper.make_node(op, inputs, [f"{name}/{plane}/{op}"], **kwargs))
    graph.initializer.append(numpy_helper.from_array(np.int32(8), f"{name}/zero"))
    graph.initializer.append(numpy_helper.from_array(np.array(codes.shape), f"{name}/shape"))
    nodes += [
        helper.make_node("Add", [f"{name}/low/Mul", f"{name}/high/Mul"], [f"{name}/sum"]),
        helper.make_node("Sub", [f"{name}/sum", f"{name}/zero"], [f"{name}/centred"]),
        helper.make_node("Reshape", [f"{name}/centred", f"{name}/shape"], [f"{name}/shaped"]),
        helper.make_node("Cast", [f"{name}/shaped"], [name], to=TensorProto.INT8),
    ]
    for node in reversed(nodes):
        graph.node.insert(0, node)
    # It is another file now, whose digest nobody has noted.
    for entry in [entry for entry in proto.metadata_props if entry.key == DIGEST_KEY]:
        proto.metadata_props.remove(entry)


def saved(proto, folder):
    onnx.save(proto, folder / "changed.onnx")
    return folder / "changed.onnx"


def test_packed_weights_are_read_back_as_the_codes_that_they_are(classifier, tmp_path):
    plain = ExportedModel(classifier.onnx_path)
    proto = onnx.load(classifier.onnx_path)
    for layer in ("block.conv", "fc1"):
        pack(proto, layer)
    packed = ExportedModel(saved(proto, tmp_path))
    assert list(packed.weights) == list(plain.weights)
    for name, tensor in plain.weights.items():
        np.testing.assert_array_equal(packed.weights[name].codes, tensor.codes)
        np.testing.assert_array_equal(packed.weights[name].step_size, tensor.step_size)
    assert packed.stored("stem") == [("int8", 216, 216)]
    for layer in ("block.conv", "fc1"):
        planes = [row for row in packed.stored(layer) if row[0] == "uint8"]
        assert sorted(planes) == [("uint8", 72, 72), ("uint8", 288, 288)]


def test_packed_weights_pass_all_checks_and_a_changed_bit_of_them_does_not(classifier, tmp_path):
    proto = onnx.load(classifier.onnx_path)
    pack(proto, "block.conv")
    report = validate(classifier.reference, saved(proto, tmp_path), latency_rounds=0)
    assert report.faults == ()
    assert report.sections["warnings"] == []
    row = report.sections["bit_widths"]["weights"]["block.conv"]
    assert (row["stored_bytes"], row["stored_bits"]) == (360, 5)
    (plane,) = (tensor for tensor in proto.graph.initializer if tensor.name == "block.conv/codes/low/packed")
    changed = numpy_helper.to_array(plane).copy()
    changed.flat[100] ^= 1
    plane.CopyFrom(numpy_helper.from_array(changed, plane.name))
    report = validate(classifier.reference, saved(proto, tmp_path), latency_rounds=0)
    assert report.faults[0] == "The weights of 'block.conv' in changed.onnx are not those of the frozen PyTorch model."


def test_weights_in_a_file_of_external_data_are_read_and_run(classifier, tmp_path):
    proto = onnx.load(classifier.onnx_path)
    path = tmp_path / "external.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="external.data", size_threshold=64)
    assert (tmp_path / "external.data").stat().st_size > 500
    report = validate(classifier.reference, path, latency_rounds=0)
    assert report.faults == ()
    (tmp_path / "external.data").unlink()
    with pytest.raises(ArtifactError, match="external.onnx"):
        ExportedModel(path)


def test_a_model_too_large_to_be_serialized_is_loaded_from_a_file(classifier):
    with loadable(onnx.load(classifier.onnx_path), most_bytes=1000) as model:
        runner = OnnxRuntimeRunner(model)
    assert not model.exists()
    reference = classifier.reference
    np.testing.assert_array_equal(runner.run(reference.inputs), reference.logits)


def duplicate_codes(graph):
    graph.node.append(helper.make_node("Identity", ["input"], ["fc1/codes"]))


def compute_codes_from_input(graph):
    (tensor,) = (tensor for tensor in graph.initializer if tensor.name == "fc1/codes")
    tensor.name = "elsewhere"
    graph.node.insert(0, helper.make_node("Identity", ["nowhere"], ["fc1/codes"]))


def make_codes_wide(graph):
    (tensor,) = (tensor for tensor in graph.initializer if tensor.name == "fc1/codes")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.int32), tensor.name))


def take_the_step_size_from_the_input(graph):
    (node,) = (node for node in graph.node if node.name == "fc1/dequantize")
    node.input[1] = "input"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (duplicate_codes, "two tensors are named 'fc1/codes'"),
        (compute_codes_from_input, "reads 'nowhere', which nothing before it makes"),
        (make_codes_wide, "the weights of 'fc1' are int32"),
        (take_the_step_size_from_the_input, "'input' is not a constant"),
        (lambda graph: graph.node.reverse(), "which nothing before it makes"),
        (lambda graph: graph.ClearField("output"), "without inputs or outputs"),
    ],
)
def test_a_file_with_tensors_that_are_absent_ambiguous_or_of_another_type_is_refused(
    classifier, tmp_path, change, text
):
    proto = onnx.load(classifier.onnx_path)
    change(proto.graph)
    with pytest.raises(ArtifactError, match=text):
        ExportedModel(saved(proto, tmp_path))
