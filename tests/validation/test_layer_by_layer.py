"""Fed with PyTorch's codes, a right layer computes PyTorch's codes, and a wrong one is named."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import ValidationReport
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import record_reference
from llt_nncf.validation import validate
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import calibrate

BITS = dict.fromkeys(Classifier.policy_bits, (4, 4)) | {"stem": (4, 8)}
ENGINES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module", params=[True, False], ids=["powers-of-two", "ordinary-steps"])
def exported(request, tmp_path_factory):
    torch.manual_seed(0)
    model = calibrate(Classifier(), torch.randn(16, 3, SIZE, SIZE), is_exact=request.param)
    folder = tmp_path_factory.mktemp("exported")
    x = torch.randn(16, 3, SIZE, SIZE)
    path = export_onnx(model, x[:1], folder / "model.onnx", policy=BitPolicy(BITS))
    export_openvino(path, folder / "model.xml")
    return path, record_reference(model, x)


def layer_faults(path, reference, **kwargs):
    """What the layers were found guilty of, by engine, without what else validation found."""
    report = validate(reference, path, latency_rounds=0, min_agreement=0.0, **kwargs)
    found = [fault for fault in report.faults if "fed PyTorch's codes" in fault]
    return report, {engine: [f for f in found if f.startswith(engine)] for engine in ENGINES}


@pytest.mark.parametrize("with_xml", [False, True], ids=["onnx", "xml"])
def test_a_right_model_passes_in_integer_kernels_and_every_code_is_accounted_for(exported, with_xml):
    path, reference = exported
    report, faults = layer_faults(path, reference, xml_path=path.with_suffix(".xml") if with_xml else None)
    assert report.faults == ()
    elements = sum(codes.size for codes in reference.taps.values())
    for engine in ENGINES:
        row = report.sections["engines"][engine]["layer_by_layer"]
        assert row["elements"] == elements == row["exact"] + row["ties_other_way"]
        assert row["ties_other_way"] <= row["ties"] == sum(int(ties.sum()) for ties in reference.ties.values())
        assert row["first_difference"] is None
        assert row["in_float"] == []
        assert row["outputs"]["wrong"] == 0
        assert list(row["quantizers"]) == list(reference.taps)


def add_one(codes):
    codes.flat[3] += 1 if codes.flat[3] < 7 else -1
    return codes


# Node and input that are changed, how, and where that shows first: at which layer, and in which codes.
FAULTS = {
    "weight-code": ("block.conv/dequantize", 0, add_one, "layer 'block.conv': ", "block|0"),
    "step-size": ("block.conv/dequantize", 1, lambda step: step * np.float32(1.01), "layer 'block.conv': ", "block|0"),
    "bias-code": ("block.conv/bias_dequantize", 0, lambda codes: codes + 1, "layer 'block.conv': ", "block|0"),
    "grid": ("sum|0/quantize", 1, lambda step: step * np.float32(1.01), "", "sum|0"),
    "bound": ("sum|0/clip", 2, lambda code: code - np.uint8(1), "", "sum|0"),
    "last-layer": ("fc2/bias_dequantize", 0, lambda codes: codes + 1, "layer 'fc2': ", "output"),
}


def planted(path, folder, node_name, index, change):
    """Returns the path of a copy in which one constant of one node is another; other readers of it see the old one."""
    proto = onnx.load(path)
    (node,) = (node for node in proto.graph.node if node.name == node_name)
    (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == node.input[index])
    array = np.asarray(change(numpy_helper.to_array(tensor).copy()))
    if tensor.name.startswith("llt/"):
        node.input[index] = "planted"
        proto.graph.initializer.append(numpy_helper.from_array(array, "planted"))
    else:
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, folder / "planted.onnx")
    return folder / "planted.onnx"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_where_it_is(exported, tmp_path, fault):
    path, reference = exported
    node, index, change, layer, place = FAULTS[fault]
    broken = planted(path, tmp_path, node, index, change)
    for xml_path in (None, export_openvino(broken, tmp_path / "planted.xml")):
        report, found = layer_faults(broken, reference, xml_path=xml_path)
        for engine in ENGINES:
            (text,) = found[engine]
            assert text.startswith(f"{engine}: {layer}")
            row = report.sections["engines"][engine]["layer_by_layer"]
            assert row["first_difference"] == place
            wrong = [name for name, quantizer in row["quantizers"].items() if quantizer["wrong"]]
            # Only there: nothing behind it is touched.
            assert wrong == ([] if place == "output" else [place])
            assert row["outputs"]["wrong"] == 0 if wrong else row["outputs"]["wrong"] > 0


def test_outputs_that_are_no_numbers_are_the_last_layers_and_the_report_can_be_saved(exported, tmp_path):
    path, reference = exported
    broken = planted(path, tmp_path, "fc2/dequantize", 1, lambda step: np.full_like(step, np.nan))
    report, found = layer_faults(broken, reference)
    for engine in ENGINES:
        assert "layer 'fc2': 80 of 80 outputs" in found[engine][0]
    assert not ValidationReport.load(report.save(tmp_path / "report.json")).passed


def test_a_fault_in_the_openvino_file_alone_is_openvinos(exported, tmp_path):
    path, reference = exported
    broken = planted(path, tmp_path, *FAULTS["bias-code"][:3])
    _, found = layer_faults(path, reference, xml_path=export_openvino(broken, tmp_path / "planted.xml"))
    assert found["onnxruntime"] == []
    assert found["openvino"][0].startswith("openvino: layer 'block.conv': ")


def test_several_faults_are_told_by_the_first(exported, tmp_path):
    path, reference = exported
    first = planted(path, tmp_path, *FAULTS["bias-code"][:3])
    both = planted(first, tmp_path, "fc1/dequantize", 1, lambda step: step * np.float32(1.5))
    _, found = layer_faults(both, reference)
    for engine in ENGINES:
        assert "layer 'block.conv': " in found[engine][0]
        assert found[engine][0].endswith("; so are codes of 'fc1|0'.")


def test_a_code_may_differ_at_a_tie_by_one_and_nowhere_else(exported):
    path, reference = exported
    for shift, at_a_tie, is_wrong in ((1, True, False), (1, False, True), (2, True, True)):
        taps = {name: codes.copy() for name, codes in reference.taps.items()}
        ties = {name: np.zeros(codes.shape, bool) for name, codes in taps.items()}
        # What the last quantizer feeds is fc2, which a changed code moves too: only the quantizer is looked at.
        index = np.unravel_index(taps["fc1|0"].argmin(), taps["fc1|0"].shape)
        taps["fc1|0"][index] += shift
        ties["fc1|0"][index] = at_a_tie
        report, _ = layer_faults(path, dataclasses.replace(reference, taps=taps, ties=ties))
        for engine in ENGINES:
            row = report.sections["engines"][engine]["layer_by_layer"]["quantizers"]["fc1|0"]
            assert row["wrong"] == is_wrong
            assert row["exact"] == taps["fc1|0"].size - 1
            assert row["max_difference_steps"] == shift


def test_a_cut_model_that_an_engine_cannot_load_is_a_fault_beside_the_other_figures(exported, monkeypatch):
    path, reference = exported
    monkeypatch.setattr("llt_nncf.validation.layer_by_layer.cut_onnx", lambda *_: onnx.ModelProto())
    report = validate(reference, path, latency_rounds=0)
    (fault,) = report.faults
    assert fault.startswith("onnxruntime: layers cannot be compared one by one: onnxruntime cannot load")
    assert report.sections["engines"]["onnxruntime"]["agreement"] == 1.0


def test_a_reference_without_codes_is_valid_and_the_report_says_what_was_not_checked(exported):
    path, reference = exported
    report, _ = layer_faults(path, dataclasses.replace(reference, taps={}, ties={}))
    assert report.passed
    assert report.sections["warnings"] == [
        f"{engine} was not compared layer by layer: the reference has no codes." for engine in ENGINES
    ]
