"""The classification sample, small: every stage runs, and the figures that it returns are plausible."""

import importlib
import json
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
from rich.console import Console

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import ValidationReport
from llt_nncf.cli.main import main as llt_nncf
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import LltError
from samples.classification.models import build_model

ROOT = Path(__file__).parents[2]
ARGUMENTS = ["--float-epochs", "4", "--epochs", "3", "--latency-rounds", "3", "--min-agreement", "0.95"]
ARGUMENTS += ["--config", str(ROOT / "configs" / "digits.json")]


@pytest.fixture(scope="module")
def sample():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "samples" / "classification"))
        yield importlib.import_module("main")


@pytest.fixture(scope="module")
def run(sample, tmp_path_factory):
    """The sample's folder and figures after a few epochs of everything."""
    out = tmp_path_factory.mktemp("digits")
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


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--epochs", "6"], "/checkpoint.pt is of another training: --epochs was 3 and is 6. Give what was given"),
        (["--float-epochs", "5", "--float-lr", "1"], "--float-epochs was 4 and is 5; --float-lr was 0.1 and is 1.0"),
        (["--model", "resnet20"], "--model was 'digits-cnn' and is 'resnet20'"),
        (["--config", "{other}"], "compression.budget.bitops_as.weight_bits was 3 and is 4"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_resume_with_other_options_is_refused_by_name(sample, run, tmp_path, options, named: str):
    """A cosine over more epochs would have to rise first; the policy of a checkpoint is not of another budget."""
    out, _ = run
    config = json.loads((ROOT / "configs" / "digits.json").read_text("utf-8"))
    config["compression"]["budget"]["bitops_as"]["weight_bits"] = 4
    (tmp_path / "other.json").write_text(json.dumps(config), "utf-8")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    options = [option.format(other=tmp_path / "other.json") for option in options]
    with pytest.raises(ArtifactError) as caught:
        sample.main([*ARGUMENTS, "--out", str(out), "--resume", *options])
    assert named in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "config.json: no such file"),
        ("{", "config.json: cannot be read as JSON"),
        ("[]", "config.json: compression must be a section of the algorithm llt_quantization"),
        (
            '{"compression": {"algorithm": "quantization"}}',
            "config.json: compression must be a section of the algorithm",
        ),
        ('{"compression": {"algorithm": "llt_quantization", "alfa": 1}}', "compression.alfa: unknown key"),
        ('{"compression": {"algorithm": "llt_quantization"}}', "compression.budget: missing"),
    ],
    ids=["no file", "no JSON", "no object", "other algorithm", "unknown key", "no budget"],
)
def test_a_faulty_config_is_named_before_anything_is_trained(sample, tmp_path, text, fault: str):
    if text:
        (tmp_path / "config.json").write_text(text, "utf-8")
    with pytest.raises(LltError) as caught:
        sample.main(["--config", str(tmp_path / "config.json"), "--out", str(tmp_path / "out")])
    assert fault in str(caught.value)
    assert not (tmp_path / "out").exists()


def layers(weight_bits: tuple[int, ...], *activation_bits: tuple[int, ...]) -> LayerTable:
    """A fixed layer, and one for each of the activations' candidates; of 100 MACs each."""
    rows = [Layer("first", 100, 10, "a0", (8,), (8,))]
    rows += [Layer(f"l{i}", 100, 10, f"a{i}", weight_bits, bits) for i, bits in enumerate(activation_bits, 1)]
    return LayerTable(tuple(rows))


@pytest.mark.parametrize(
    ("table", "budget", "found", "uniform"),
    [
        (layers((6, 4, 3, 2), (6, 4, 3, 2)), {"bitops_as": {"weight_bits": 3, "activation_bits": 3}}, (2, 4), (3, 3)),
        # 12 bits x bits per MAC: 2x6, 3x4, 4x3 and 6x2 cost the same.
        (layers((6, 4, 3, 2), (6, 4, 3, 2)), {"gbitops": 1}, (2, 6), (3, 4)),
        (layers((6, 4, 3, 2), (8, 4)), {"bitops_as": {"weight_bits": 3, "activation_bits": 3}}, (3, 4), (3, 4)),
        (layers((6, 4, 3, 2), (8, 4), (4, 2)), {"gbitops": 1}, (4, 4), (4, 4)),
        (layers((7, 4, 3, 2), (8,)), {"average_weight_bits": 3}, (3, 8), (3, 8)),
        (layers((6, 4, 3, 2), (8, 4), (3, 2)), {"gbitops": 1}, (4, 4), None),
        (layers((6, 4, 3), (8, 4), (8, 3)), {"gbitops": 1}, (3, 4), None),
    ],
    ids=["named", "dearest", "named is no candidate", "common", "fixed activations", "none in common", "all dearer"],
)
def test_the_uniform_policy_has_bits_that_all_layers_may_have(sample, table, budget, found, uniform):
    weight_bits, activation_bits = found
    at_most = {row.name: max(b for b in row.activation_bits if b <= activation_bits) for row in table.layers[1:]}
    chosen = BitPolicy({"first": (8, 8), **{name: (weight_bits, bits) for name, bits in at_most.items()}})
    policy = importlib.import_module("comparison").uniform_policy(table, budget, chosen)
    assert (None if policy is None else set(policy.bits.values())) == (uniform and {(8, 8), uniform})


def test_the_table_says_what_is_compared(run, capsys):
    _, rows = run
    comparison = importlib.import_module("comparison")
    comparison.print_rows(rows, Console(width=80))
    comparison.print_rows({name: rows[name] for name in ("float", "llt")}, Console(width=80))
    titles = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("Float")]
    assert titles == ["Float, uniform at the same BitOPs, and learned bits", "Float and learned bits"]


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
