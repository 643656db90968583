"""Validation passes what is right, and names what is not."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import ValidationReport
from llt_nncf.errors import ArtifactError
from llt_nncf.export import export_float_onnx
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import record_reference
from llt_nncf.validation import validate
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import calibrate

BITS = {"stem": (4, 8), "block.conv": (4, 4), "fc1": (4, 4), "fc2": (4, 4)}
GROUPS = {"stem": "input|0", "block.conv": "stem|0", "fc1": "sum|0", "fc2": "fc1|0"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    model = calibrate(Classifier(), torch.randn(16, 3, SIZE, SIZE), is_exact=True)
    folder = tmp_path_factory.mktemp("exported")
    x = torch.randn(40, 3, SIZE, SIZE)
    path = export_onnx(model, x[:1], folder / "model.onnx", policy=BitPolicy(BITS))
    export_openvino(path, folder / "model.xml")
    float_model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 10))
    export_float_onnx(float_model, x[:1], folder / "float.onnx")
    labels = model(x).argmax(1)
    return path, record_reference(model, x, labels, float_model=float_model)


def tampered(path, folder, change):
    """Returns the path of a copy that ``change(proto)`` has edited."""
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, folder / "tampered.onnx")
    return folder / "tampered.onnx"


def edit(name, change):
    def apply(proto):
        (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))

    return apply


def faults_of(path, reference, **kwargs):
    report = validate(reference, path, latency_rounds=0, **kwargs)
    assert report.passed == (not report.faults)
    return report.faults


def table(activation_bits=(4,)):
    rows = [Layer(name, 1, 1, GROUPS[name], (4,), (8,) if name == "stem" else tuple(activation_bits)) for name in BITS]
    return LayerTable(tuple(rows), {"block|0": 8})


def test_good_export_passes_and_the_report_says_everything(exported, tmp_path):
    path, reference = exported
    saved = reference.save(tmp_path / "reference.npz")
    report = validate(
        saved,
        path,
        policy=BitPolicy(BITS),
        table=table(),
        xml_path=path.with_suffix(".xml"),
        float_onnx_path=path.with_name("float.onnx"),
        latency_rounds=3,
    )
    assert report.faults == ()
    assert report.passed
    assert report.sections["warnings"] == []
    assert ValidationReport.load(report.save(tmp_path / "report.json")) == report
    assert set(report.sections["engines"]) == {"onnxruntime", "openvino"}
    for row in report.sections["engines"].values():
        assert row["max_abs_difference"] == row["max_difference_steps"] == 0.0
        assert row["agreement"] == row["accuracy"] == 1.0
        assert all(kernel["is_integer"] for kernel in row["kernels"].values())
        assert row["codes"]["first_difference"] is None
        assert set(row["codes"]["quantizers"]) == {*GROUPS.values(), "block|0"}
    assert report.sections["bit_widths"]["weights"]["fc1"] == {
        "policy_bits": 4,
        "needed_bits": 4,
        "weight_count": 8 * 72,
        "stored_bits": 8,
        "stored_bytes": 8 * 72,
    }
    latency = report.sections["latency"]["engines"]
    assert set(latency) == {"onnxruntime", "openvino", "openvino_default_precision"}
    for section, unit in (("latency", "ms"), ("throughput", "per_s")):
        for row in report.sections[section]["engines"].values():
            assert min(row[f"quantized_{unit}"], row[f"float_{unit}"], row["num_streams"], row["num_threads"]) > 0
            low, high = row["speed_up_quartiles"]
            assert 0 < low <= row["speed_up"] <= high
    assert latency["openvino"]["inference_precision"] == "f32"
    assert set(report.sections["files"]) == {"model.onnx", "model.xml", "float.onnx"}


def test_tampered_weight_is_found_even_if_no_top_1_changes(exported, tmp_path):
    path, reference = exported

    def change(codes):
        codes.flat[7] = 5 if codes.flat[7] != 5 else 4
        return codes

    fault, *_ = faults_of(tampered(path, tmp_path, edit("block.conv/codes", change)), reference, min_agreement=0.0)
    assert fault == "The weights of 'block.conv' in tampered.onnx are not those of the frozen PyTorch model."


def test_tampered_activation_is_seen_at_the_first_quantizer_that_differs(exported, tmp_path):
    path, reference = exported
    broken = tampered(path, tmp_path, edit("stem/bias_codes", lambda codes: codes + 4000))
    report = validate(reference, broken, latency_rounds=0, min_agreement=0.0)
    for row in report.sections["engines"].values():
        assert row["codes"]["first_difference"] == "stem|0"
        assert row["codes"]["quantizers"]["stem|0"]["max_difference_steps"] >= 1
        assert row["codes"]["quantizers"]["input|0"]["share_different"] == 0
        assert row["max_difference_steps"] >= 1


def test_more_weight_bits_than_the_policy_is_a_fault_and_fewer_are_not(exported):
    path, reference = exported
    tight, loose = ({**BITS, "fc1": (bits, 4)} for bits in (3, 5))
    other = "The file was exported with another policy than the one given."
    assert faults_of(path, reference, policy=BitPolicy(tight)) == (
        "The weights of 'fc1' need 4 bits; the policy gives them 3.",
        other,
    )
    assert faults_of(path, reference, policy=BitPolicy(loose)) == (other,)


@pytest.mark.parametrize("bits", [3, 5])
def test_activation_range_must_be_the_policys(exported, bits):
    path, reference = exported
    faults = faults_of(path, reference, policy=BitPolicy({**BITS, "fc2": (4, bits)}))
    assert f"Quantizer 'fc1|0' gives codes 0..15; {bits} bits, as the policy says, give 0..{2**bits - 1}." in faults


def test_relu6_may_narrow_a_range(exported):
    path, reference = exported
    report = validate(reference, path, latency_rounds=0)
    assert report.passed
    assert report.sections["bit_widths"]["activations"]["stem|0"]["high"] <= 15


def test_table_brings_the_quantizers_that_feed_no_layer_into_the_check(exported):
    path, reference = exported
    wrong = dataclasses.replace(table(), unsearched={"block|0": 4, "gone": 8})
    assert faults_of(path, reference, table=wrong) == (
        "Quantizer 'gone' of the layer table is not in the file.",
        "Quantizer 'block|0' gives codes -128..127; 4 bits, as the policy says, give -8..7.",
    )


def test_layers_that_only_policy_or_only_file_have_are_faults(exported):
    path, reference = exported
    bits = {("other" if name == "fc2" else name): value for name, value in BITS.items()}
    faults = faults_of(path, reference, policy=BitPolicy(bits))
    text = "Layer 'other' of the policy is not in the file; one that reaches no output belongs into ignored_scopes."
    assert text in faults
    assert "Layer 'fc2' of the file is not in the policy." in faults
    faults = faults_of(path, reference, policy=BitPolicy(bits), table=table())
    assert "Layer 'fc2' of the layer table is not in the policy." in faults


def test_low_agreement_is_a_fault_in_each_engine(exported):
    path, reference = exported
    logits = reference.logits.copy()
    logits[-4:] = -logits[-4:]  # the first are compared layer by layer
    changed = dataclasses.replace(reference, logits=logits)
    assert faults_of(path, changed, min_agreement=0.99) == tuple(
        f"{engine}: top-1 agrees with PyTorch for 90.00% of the samples; 99.00% are asked for."
        for engine in ("onnxruntime", "openvino")
    )
    assert faults_of(path, changed, min_agreement=0.9) == ()


def test_nan_outputs_and_wrong_shapes_are_faults(exported, tmp_path):
    path, reference = exported
    (name,) = (n.input[1] for n in onnx.load(path).graph.node if n.name == "fc2/dequantize")
    broken = tampered(path, tmp_path, edit(name, lambda step: np.full_like(step, np.nan)))
    assert any("are NaN or infinite" in fault for fault in faults_of(broken, reference))
    narrow = dataclasses.replace(reference, logits=reference.logits[:, :3], labels=None, float_logits=None)
    assert "onnxruntime: outputs of shape (40, 10) instead of (40, 3)." in faults_of(path, narrow)


def test_taps_without_counterpart_are_faults(exported):
    path, reference = exported
    taps = {("other" if name == "sum|0" else name): codes for name, codes in reference.taps.items()}
    faults = faults_of(path, dataclasses.replace(reference, taps=taps, ties={}))
    assert "openvino: quantizer 'sum|0' is not in the reference." in faults
    assert "onnxruntime: quantizer 'other' has no codes in the file." in faults


def test_model_that_an_engine_cannot_run_is_a_fault_that_names_it(exported, tmp_path):
    path, reference = exported

    def change(proto):
        proto.graph.node[-1].op_type = "NoSuchOp"

    faults = faults_of(tampered(path, tmp_path, change), reference)
    assert [fault.split(" cannot load")[0] for fault in faults if "cannot load" in fault] == [
        "onnxruntime: onnxruntime",
        "openvino: openvino",
    ]


def test_missing_policy_is_a_fault_and_missing_files_raise(exported, tmp_path):
    path, reference = exported
    without = tampered(path, tmp_path, lambda proto: proto.ClearField("metadata_props"))
    assert faults_of(without, reference)[0].startswith("There is no policy")
    (tmp_path / "text.onnx").write_text("hello")
    for broken in ("missing.onnx", "text.onnx"):
        with pytest.raises(ArtifactError, match=broken):
            validate(reference, tmp_path / broken)
    with pytest.raises(ArtifactError, match="missing.npz"):
        validate(tmp_path / "missing.npz", path)


def test_layers_in_float_are_warned_of(tmp_path):
    class Unquantized(Classifier):
        def forward(self, x):
            return self.stem(self.in_q(x)).sigmoid().mean([2, 3])

    model = calibrate(Unquantized(), torch.randn(4, 3, SIZE, SIZE), is_exact=True)
    x = torch.randn(4, 3, SIZE, SIZE)
    path = export_onnx(model, x, tmp_path / "m.onnx", policy=BitPolicy({"stem": (4, 8)}))
    reference = dataclasses.replace(record_reference(model, x), weight_digests={})
    report = validate(reference, path, latency_rounds=0, min_agreement=0.0)
    # A sigmoid directly behind the convolution: ONNX Runtime finds no quantizer to fuse with.
    assert report.sections["warnings"] == ["onnxruntime does not run in integers: stem."]
    assert report.passed


@pytest.mark.parametrize(("sample", "warned"), [(0, True), (-1, False)], ids=["with-codes", "without"])
def test_other_fusions_are_suspected_only_where_the_codes_are_known(exported, sample, warned):
    path, reference = exported
    # Elsewhere a rounding tie may have fallen the other way.
    logits = reference.logits.copy()
    logits[sample] += 1.0
    report = validate(dataclasses.replace(reference, logits=logits), path, latency_rounds=0)
    assert ["fuses the layers differently" in text for text in report.sections["warnings"]] == [True] * 2 * warned
