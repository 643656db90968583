"""The classification sample, small: every stage runs, and the figures that it returns are plausible."""

import importlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import ValidationReport
from llt_nncf.cli.main import main as llt_nncf
from samples.classification.models import build_model

ROOT = Path(__file__).parents[2]
ARGUMENTS = ["--float-epochs", "4", "--epochs", "3", "--latency-rounds", "3", "--min-agreement", "0.95"]
ARGUMENTS += ["--config", str(ROOT / "configs" / "digits.json")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The sample's folder and figures after two epochs of everything."""
    out = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "samples" / "classification"))
        sample = importlib.import_module("main")
        return out, sample.main([*ARGUMENTS, "--out", str(out)])


def test_the_sample_leaves_its_files_and_returns_its_figures(run):
    out, rows = run
    written = {path.name for path in out.iterdir()}
    assert {"model.onnx", "model.xml", "model.bin", "policy.json", "report.json", "bits.png"} <= written
    assert {"layers.json", "indicators.json", "indicators.png", "reference.npz", "checkpoint.pt"} <= written
    assert ValidationReport.load(out / "report.json").passed
    assert build_model("digits-cnn", num_classes=10, in_channels=1, weights=out / "float.safetensors")
    assert list(rows) == ["float", "uniform", "llt"]
    assert all(80 < row["pytorch_top1"] <= 100 for row in rows.values())
    assert rows["llt"]["gbitops"] <= rows["uniform"]["gbitops"] < rows["float"]["gbitops"] / 50
    assert rows["llt"]["file_kib"] < rows["float"]["file_kib"] / 2
    assert rows["llt"]["onnxruntime_agreement"] >= 95
    assert rows["llt"]["openvino_agreement"] >= 95


def test_every_layer_runs_in_integers_on_both_engines(run):
    out, _ = run
    sections = ValidationReport.load(out / "report.json").sections
    for engine in ("onnxruntime", "openvino"):
        kernels = sections["engines"][engine]["kernels"]
        assert set(kernels) == set(BitPolicy.load(out / "policy.json").bits)
        assert all(row["is_integer"] for row in kernels.values())


def test_a_failed_validation_gives_a_row_without_the_files_figures(run, tmp_path):
    out, rows = run
    comparison = importlib.import_module("comparison")
    report = ValidationReport.load(out / "report.json")
    engines = {"onnxruntime": {}, "openvino": report.sections["engines"]["openvino"]}
    failed = replace(report, passed=False, sections={**report.sections, "engines": engines})
    controller = SimpleNamespace(policy=BitPolicy.load(out / "policy.json"), table=LayerTable.load(out / "layers.json"))
    row = comparison.quantized_row(controller, failed, tmp_path)
    assert set(rows["llt"]) - set(row) == {"file_kib", "onnxruntime_top1", "onnxruntime_agreement"}
    assert row["passed"] is False
    assert "file_kib" not in comparison.float_row(failed, controller.table, tmp_path)


def test_validate_reads_the_folder_and_fails_with_another_policy(run, tmp_path, capsys):
    out, _ = run
    arguments = ["validate", str(out), "--latency-rounds", "0", "--report", str(out / "again.json")]
    assert llt_nncf([*arguments, "--min-agreement", "0.95"]) == 0
    assert "Validation passed" in capsys.readouterr().out
    (other := tmp_path / "other").mkdir()
    for path in out.iterdir():
        if path.suffix in (".onnx", ".xml", ".bin", ".npz"):
            (other / path.name).write_bytes(path.read_bytes())
    table, policy = LayerTable.load(out / "layers.json"), BitPolicy.load(out / "policy.json")
    table.save(other / "layers.json")
    BitPolicy({**policy.bits, "block1.conv1": (6, 6)}).save(other / "policy.json")
    arguments[1] = str(other)
    assert llt_nncf(arguments) == 1
    assert "Validation failed" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_in_every_stage_and_resumed_the_sample_ends_where_an_uninterrupted_one_ends(run, tmp_path):
    whole, rows = run
    stages = ["float.pt", "checkpoint.pt", "uniform/checkpoint.pt"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(ROOT / "samples" / "classification" / "main.py"), *ARGUMENTS, "--out", str(tmp_path)]
    for kills, stage in enumerate([*stages, None]):
        process = subprocess.Popen([*command, *(["--resume"] if kills else [])], env=env, stdout=subprocess.DEVNULL)
        if stage is None:
            assert process.wait(300) == 0
            break
        while not (tmp_path / stage).exists():
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert torch.load(tmp_path / stage, weights_only=True)["epoch"] < 3
    for stage in stages:
        one, other = (torch.load(folder / stage, weights_only=True) for folder in (whole, tmp_path))
        assert all(torch.equal(other["model"][name], value) for name, value in one["model"].items()), stage
        assert torch.equal(one["loader_rng"], other["loader_rng"])
    assert (tmp_path / "policy.json").read_bytes() == (whole / "policy.json").read_bytes()
    accuracies = ValidationReport.load(tmp_path / "report.json").sections["engines"]["onnxruntime"]
    assert 100 * accuracies["agreement"] == pytest.approx(rows["llt"]["onnxruntime_agreement"])
