"""``llt-nncf validate`` on a folder, on a file, and on what is neither."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import ValidationReport
from llt_nncf.cli.main import main
from llt_nncf.export import export_float_onnx
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import record_reference
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import calibrate

INPUT = torch.zeros(1, 3, SIZE, SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    model = calibrate(Classifier(), torch.randn(16, 3, SIZE, SIZE), is_exact=True)
    folder = tmp_path_factory.mktemp("out")
    x = torch.randn(12, 3, SIZE, SIZE)
    policy = BitPolicy(dict.fromkeys(Classifier.policy_bits, (4, 4)) | {"stem": (4, 8)})
    export_onnx(model, x[:1], folder / "model.onnx")
    export_openvino(folder / "model.onnx", folder / "model.xml")
    policy.save(folder / "policy.json")
    reference = record_reference(model, x, model(x).argmax(1))
    reference.save(folder / "reference.npz")
    np.savez(folder / "data.npz", inputs=reference.inputs, labels=reference.labels)
    (folder / "score.py").write_text("def error(outputs, labels):\n    return (outputs.argmax(1) != labels).mean()\n")
    return folder


def validate(*arguments):
    return main(["validate", *map(str, arguments), "--latency-rounds", "0"])


def test_a_folder_is_validated_and_keeps_its_report(folder, capsys):
    assert validate(folder) == 0
    assert "Validation passed." in capsys.readouterr().out
    assert set(ValidationReport.load(folder / "report.json").sections["engines"]) == {"onnxruntime", "openvino"}


def test_a_report_that_cannot_be_saved_is_printed_all_the_same(folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert validate(folder, "--report", tmp_path / "file" / "report.json") == 2
    assert "Validation passed." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "engines"), [("model.onnx", {"onnxruntime", "openvino"}), ("model.xml", {"openvino"})]
)
def test_a_file_is_validated_against_a_reference_and_on_own_data(folder, tmp_path, capsys, name, engines):
    options = [
        "--reference",
        folder / "reference.npz",
        "--policy",
        folder / "policy.json",
        "--data",
        folder / "data.npz",
    ]
    options += ["--accuracy", f"{folder / 'score.py'}:error", "--report", tmp_path / "report.json"]
    assert validate(folder / name, *options) == 0
    data = ValidationReport.load(tmp_path / "report.json").sections["data"]
    assert data["engines"] == {engine: {"accuracy": 0.0} for engine in engines}
    assert data["agreement"] == (1.0 if len(engines) == 2 else None)
    assert "Own data, 12 samples" in capsys.readouterr().out


def test_a_wrong_layer_gives_status_1_and_its_name(folder, tmp_path, capsys):
    proto = onnx.load(folder / "model.onnx")
    (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == "block.conv/bias_codes")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name))
    onnx.save(proto, tmp_path / "model.onnx")
    options = ["--reference", folder / "reference.npz", "--policy", folder / "policy.json"]
    assert validate(tmp_path / "model.onnx", *options) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Fault: onnxruntime: layer 'block.conv':" in out
    assert "Fault: openvino: layer 'block.conv':" in out


@pytest.mark.parametrize(("weight_bits", "status"), [(8, 1), (7, 0)])
def test_saturation_on_a_cpu_without_vnni_is_found_and_explained(tmp_path, weight_bits, status):
    torch.manual_seed(0)
    x = torch.randn(16, 3, SIZE, SIZE)
    model = calibrate(Classifier(weight_bits=weight_bits, activation_bits=8), x, is_exact=True)
    policy = BitPolicy(dict.fromkeys(Classifier.policy_bits, (weight_bits, 8)))
    export_openvino(export_onnx(model, x[:1], tmp_path / "model.onnx", policy=policy), tmp_path / "model.xml")
    record_reference(model, x).save(tmp_path / "reference.npz")
    # OpenVINO then takes the kernels of such a CPU.
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "llt_nncf.cli", "validate", str(tmp_path), "--latency-rounds", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert ("On a CPU without VNNI, weights of 8 bits saturate" in " ".join(done.stdout.split())) == bool(status)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["{}/none"], "no such folder"),
        (["{}/model.onnx"], "--reference"),
        (["{}/none.onnx", "--reference", "{}/reference.npz"], "none.onnx: no such file"),
        (["{}/none.xml", "--reference", "{}/reference.npz"], "none.xml: no such file"),
        (["{}/model.onnx", "--reference", "{}/none.npz"], "none.npz: no such file"),
        (["{}", "--policy", "{}/none.json"], "none.json: no such file"),
        (["{}", "--data", "{}/none"], "none: no such file or folder"),
        (["{}", "--accuracy", "{}/score.py:error"], "give --data too"),
        (["{}", "--data", "{}/data.npz", "--accuracy", "{}/score.py:none"], "has no function 'none'"),
    ],
)
def test_bad_paths_give_status_2_and_an_error_that_names_them(folder, capsys, arguments, text):
    assert validate(*(argument.format(folder) for argument in arguments)) == 2
    assert text in capsys.readouterr().err


def test_files_of_several_exports_are_faults_and_no_traceback(folder, tmp_path, capsys):
    for name in ("model.onnx", "model.xml", "model.bin", "reference.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    BitPolicy({"another": (4, 4)}).save(tmp_path / "policy.json")
    export_float_onnx(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 3)), INPUT, tmp_path / "float.onnx")
    assert validate(tmp_path) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "The float model gives outputs of shape (12, 3) in openvino, the exported one gave (12, 10)" in text
    assert "another" in text


@pytest.mark.parametrize(
    ("option", "value"),
    [("--min-agreement", "nan"), ("--min-agreement", "-1"), ("--min-agreement", "99"), ("--latency-rounds", "-1")],
)
def test_numbers_out_of_range_are_refused(folder, capsys, option, value):
    assert main(["validate", str(folder), option, value]) == 2
    assert "llt-nncf validate: ValidationOptionError: " in capsys.readouterr().err


def test_inspect_takes_the_folder_too(folder, capsys):
    assert main(["inspect", str(folder), "--no-kernels"]) == 0
    assert "block.conv" in capsys.readouterr().out


def test_a_folder_of_the_openvino_files_alone_is_inspected_and_validated(folder, tmp_path, capsys):
    for name in ("model.xml", "model.bin", "reference.npz", "policy.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert main(["inspect", str(tmp_path), "--no-kernels"]) == 0
    assert "block.conv" in capsys.readouterr().out
    assert validate(tmp_path) == 0


def test_names_in_square_brackets_are_printed_as_they_are(folder, tmp_path, capsys):
    score = tmp_path / "score.py"
    score.write_text("def score(outputs, labels):\n    return {'AP[small]': 0.5, 'f1[/micro]': 0.25}\n")
    assert validate(folder, "--data", folder / "data.npz", "--accuracy", f"{score}:score") == 0
    printed = capsys.readouterr().out
    assert "AP[small]" in printed
    assert "f1[/micro]" in printed
