"""Damaged, foreign and missing files get an error that names them; nothing that passes computes something else."""

import os
import random
import shutil
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Reference
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import LltError
from llt_nncf.validation import validate
from llt_nncf.validation.bit_widths import check_weights
from llt_nncf.validation.exported_ir import ExportedIr
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from tests.reliability.mutation import damaged_bytes


@contextmanager
def refusals():
    """Gives a list that holds the text of this package's error, if one was raised."""
    texts = []
    try:
        yield texts
    except LltError as error:
        texts.append(str(error))


@pytest.fixture
def folder(classifier, tmp_path):
    for suffix in (".onnx", ".xml", ".bin"):
        shutil.copy(classifier.onnx_path.with_suffix(suffix), tmp_path)
    classifier.reference.save(tmp_path / "reference.npz")
    ExportedModel(classifier.onnx_path).policy.save(tmp_path / "policy.json")
    return tmp_path


@pytest.mark.parametrize(("name", "count"), [("model.onnx", 120), ("model.xml", 40), ("model.bin", 40)])
def test_of_damaged_models_none_passes_that_has_other_weights_or_outputs(classifier, folder, name, count):
    path, reference = folder / name, classifier.reference
    content, weights = path.read_bytes(), ExportedModel(folder / "model.onnx").weights
    half_a_step = ExportedModel(folder / "model.onnx").output_step_size / 2
    is_onnx = name == "model.onnx"
    outcomes = []
    for seed in range(count):
        path.write_bytes(damaged_bytes(content, random.Random(seed)))
        onnx_path, xml_path = (path, None) if is_onnx else (None, folder / "model.xml")
        with refusals() as texts:
            report = validate(reference, onnx_path, xml_path=xml_path, latency_rounds=0)
        if texts:
            assert str(folder) in texts[0], seed
            outcomes.append("refused")
        elif not report.passed:
            outcomes.append("faults")
        else:
            outcomes.append("passed")
            exported = ExportedModel(path) if is_onnx else ExportedIr(xml_path)
            for layer, tensor in weights.items():
                np.testing.assert_array_equal(exported.weights[layer].codes, tensor.codes)
                np.testing.assert_array_equal(exported.weights[layer].step_size, tensor.step_size)
            for runner in (OnnxRuntimeRunner, OpenVinoRunner) if is_onnx else (OpenVinoRunner,):
                difference = np.abs(runner(exported.path).run(reference.inputs) - reference.logits)
                # The last bit of a bound or a bias may move ties, of which powers of two have many, by one code.
                assert (difference > half_a_step).any(1).sum() <= 4, seed
                assert difference.max() < 0.1 * np.abs(reference.logits).max(), seed
    # Some damage hits names and notes, which mean nothing to the outcome; most of it must be noticed.
    assert outcomes.count("refused") > count / 3
    assert outcomes.count("passed") < count / 4


def test_every_bit_of_a_weight_counts_in_the_bin_file(classifier, folder):
    path = folder / "model.bin"
    content = path.read_bytes()
    codes = ExportedModel(folder / "model.onnx").weights["fc1"].codes
    start = content.index(codes.tobytes())
    for seed in range(10):
        rng = random.Random(seed)
        changed = bytearray(content)
        changed[start + rng.randrange(codes.size)] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        report = validate(classifier.reference, folder / "model.onnx", xml_path=folder / "model.xml", latency_rounds=0)
        assert "The weights of 'fc1' in model.xml are not those of the frozen PyTorch model." in report.faults


def test_the_last_bit_of_every_constant_counts_in_the_onnx_file(classifier, folder):
    path = folder / "model.onnx"
    for tensor in onnx.load(path).graph.initializer:
        proto = onnx.load(classifier.onnx_path)
        (changed,) = (other for other in proto.graph.initializer if other.name == tensor.name)
        data = bytearray(changed.raw_data)
        data[0] ^= 1
        changed.raw_data = bytes(data)
        onnx.save(proto, path)
        text = "model.onnx was changed since it was exported: its digest is another."
        assert text in check_weights(ExportedModel(path), classifier.reference), tensor.name


@pytest.mark.parametrize(("name", "load"), [("reference.npz", Reference.load), ("policy.json", BitPolicy.load)])
def test_a_damaged_artifact_is_refused_by_name_or_harmless(folder, name, load):
    path = folder / name
    content = path.read_bytes()
    refused = 0
    for seed in range(300):
        path.write_bytes(damaged_bytes(content, random.Random(seed)))
        with refusals() as texts:
            load(path)
        assert all(text.startswith(str(path)) for text in texts), seed
        refused += len(texts)
    assert refused > 200


def float_model():
    """A convolution as any exporter writes it."""
    weight = numpy_helper.from_array(np.ones((10, 3, 6, 6), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Flatten", ["h"], ["y"])]
    return nodes, [weight]


def quantized_by_another_tool():
    """QuantizeLinear and DequantizeLinear with weights in floats, as PyTorch's own quantization exports them."""
    nodes, initializers = float_model()
    grid = {"s": np.float32(0.1), "zx": np.uint8(3), "zw": np.int8(0)}
    initializers += [numpy_helper.from_array(np.asarray(array), name) for name, array in grid.items()]
    before = []
    for name, zero in (("x", "zx"), ("w", "zw")):
        before += [
            helper.make_node("QuantizeLinear", [name, "s", zero], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", "s", zero], [f"{name}_dq"]),
        ]
    nodes[0].input[:] = ["x_dq", "w_dq"]
    return [*before, *nodes], initializers


def saved(path, nodes, initializers):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "net", [x], [y], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_float_models_are_refused_and_those_of_other_tools_have_none_of_the_layers(classifier, tmp_path):
    path = saved(tmp_path / "float.onnx", *float_model())
    with pytest.raises(ArtifactError, match="float.onnx: no integer weights and no quantizers"):
        validate(classifier.reference, path)
    other = saved(tmp_path / "other.onnx", *quantized_by_another_tool())
    faults = validate(classifier.reference, other, latency_rounds=0).faults
    assert "Layer 'fc1' of the reference has no integer weights in other.onnx." in faults


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "reference.npz"])
@pytest.mark.parametrize("content", [b"", b"hello", None, "folder", "locked"], ids=str)
def test_what_is_no_such_file_at_all_is_refused_by_name(folder, name, content):
    path = folder / name
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif content == "locked":
        if os.geteuid() == 0:
            pytest.skip("nothing is locked for root")
        path.touch(mode=0)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        validate(folder / "reference.npz", folder / "model.onnx", xml_path=folder / "model.xml", latency_rounds=0)


def test_an_openvino_model_without_its_bin_is_refused(folder):
    (folder / "model.bin").unlink()
    with pytest.raises(ArtifactError, match="model.xml"):
        ExportedIr(folder / "model.xml")


@pytest.mark.parametrize("content", [b"", b"hello"], ids=str)
def test_a_broken_float_model_is_a_fault(classifier, folder, content):
    (folder / "float.onnx").write_bytes(content)
    faults = validate(
        classifier.reference, classifier.onnx_path, float_onnx_path=folder / "float.onnx", latency_rounds=0
    ).faults
    assert [fault.split(" cannot load")[0] for fault in faults] == [
        "The float model: onnxruntime",
        "The float model: openvino",
    ]
