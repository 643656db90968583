"""The comparison, small: every stage runs in its own process, what is finished is kept, and the report is there."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llt_nncf.errors import ConfigError
from tests.devices import DEVICE_NAMES

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
PLAN = {
    "about": ["Digits, a step per stage."],
    "dataset": "digits",
    "model": "digits-cnn",
    "seeds": [0],
    "compression": {
        "algorithm": "llt_quantization",
        "initializer": {"range": {"num_init_samples": 64}, "batchnorm_adaptation": {"num_bn_adaptation_samples": 0}},
    },
    "finetuning": {"epochs": 1, "batch_size": 64, "learning_rate": 0.01, "distillation_temperature": 2.0},
    "indicators": {"trained": {"max_steps": 1}},
    "methods": {
        "uniform": {"label": "Uniform", "kind": "uniform"},
        "llt": {"label": "LLT", "kind": "indicators", "indicators": "trained"},
    },
    "budgets": {
        "w2a2": {"label": "BitOPs of W2A2", "limits": {"bitops_as": {"weight_bits": 2, "activation_bits": 2}}},
        "weights-3": {"label": "3 bits per weight", "limits": {"average_weight_bits": 3}, "weight_only": True},
        "tiny": {"label": "A hundredth of a MiB", "limits": {"weight_mib": 0.001}, "weight_only": True},
    },
}


def command(folder: Path, out: str = "out", *options: str) -> list[str]:
    """The sample on 64 images."""
    sample = [sys.executable, str(ROOT / "samples" / "compare" / "main.py"), "--config", str(folder / "plan.json")]
    return [
        *sample,
        "--out",
        str(folder / out),
        "--workers",
        "1",
        "--train-samples",
        "64",
        "--test-samples",
        "100",
        *options,
    ]


def compare(folder: Path, *options: str) -> str:
    """Runs the sample, and returns what it prints."""
    done = subprocess.run(
        command(folder, "out", *options), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module", params=DEVICE_NAMES)
def device(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(device, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("compare")
    (path / "plan.json").write_text(json.dumps(PLAN), "utf-8")
    compare(path, "--device", device)
    return path


def rows(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (folder / "out" / "results.csv").open(encoding="utf-8") as file:
        return {(row["method"], row["budget"]): row for row in csv.DictReader(file)}


def test_every_cell_has_its_figures_or_its_reason(folder):
    found = rows(folder)
    assert len(found) == 6
    for (_, budget), row in found.items():
        if budget == "tiny":
            assert row["status"] == "infeasible"
            assert row["reason"]
            continue
        assert row["status"] == "done"
        assert 0 <= float(row["top1"]) <= 100
        assert float(row["drop"]) == pytest.approx(float(row["float_top1"]) - float(row["top1"]), abs=0.011)
        assert int(float(row["file_bytes"])) > 10_000
        assert float(row["finetune_passes"]) == pytest.approx(4 / 3)
    # One optimizer step of Algorithm 1: five uniform policies and a sampled one.
    assert float(found["llt", "w2a2"]["search_passes"]) == 6
    assert float(found["uniform", "w2a2"]["search_passes"]) == 0


def test_methods_that_choose_the_same_bits_share_a_training(folder):
    found = rows(folder)
    # At the BitOPs of W2A2 there is no other policy than W2A2.
    assert found["llt", "w2a2"]["top1"] == found["uniform", "w2a2"]["top1"]
    assert len(list((folder / "out" / "trainings").iterdir())) == 3


def test_what_is_finished_is_kept_and_what_is_missing_is_done_again(folder, device):
    trainings = sorted((folder / "out" / "trainings").iterdir())
    before = {path: path.stat().st_mtime_ns for path in trainings}
    first = (folder / "out" / "results.csv").read_text("utf-8")
    seconds = trainings[0].read_text("utf-8")
    trainings[0].unlink()
    printed = compare(folder, "--device", device)
    assert len(re.findall("train (llt|uniform)", printed)) == 1
    after = {path: path.stat().st_mtime_ns for path in trainings}
    assert [path for path in trainings if before[path] != after[path]] == trainings[:1]
    assert json.loads(seconds)["figures"]["top1"] == json.loads(trainings[0].read_text("utf-8"))["figures"]["top1"]
    assert len(first.splitlines()) == len((folder / "out" / "results.csv").read_text("utf-8").splitlines())


def test_the_report_is_written(folder):
    assert "LLT" in (folder / "out" / "report.html").read_text("utf-8")
    assert "BitOPs of W2A2" in (folder / "out" / "results.md").read_text("utf-8")


def test_a_report_alone_says_with_what_the_results_were_made(folder, device):
    kept = folder / "out" / "made_with.json"
    content = json.loads(kept.read_text("utf-8"))
    content["machine"]["processor"] = "another machine"
    kept.write_text(json.dumps(content), "utf-8")
    compare(folder, "--report-only")
    results = json.loads((folder / "out" / "results.json").read_text("utf-8"))
    assert results["machine"]["processor"] == "another machine"
    named = "" if device == "cpu" else f" --device {device}"
    assert results["command"].endswith(f"plan.json{named} --train-samples 64 --test-samples 100")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--methods", "llt", "lllt"], "--methods names lllt; .*plan.json has uniform, llt"),
        (["--seeds", "3"], "--seeds names 3; .*plan.json has 0"),
    ],
)
def test_options_that_name_what_is_not_there_are_refused(sample, folder, options, fault: str):
    main = sample("main")
    parsed = main.parse(command(folder)[2:] + options)
    with pytest.raises(ConfigError, match=fault):
        main.selected(main.Plan.load(parsed.config), parsed)


@pytest.mark.parametrize("option", ["--train-samples", "--test-samples", "--workers"])
@pytest.mark.parametrize("value", ["0", "-5"])
def test_numbers_below_one_are_refused(sample, capsys, option: str, value: str):
    with pytest.raises(SystemExit):
        sample("main").parse(["--config", "plan.json", f"{option}={value}"])
    assert f"argument {option}: {value} is given, and must be at least 1" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="children of a process are read from /proc")
def test_workers_end_with_the_run_that_started_them(folder):
    run = subprocess.Popen(command(folder, "killed"), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    log = folder / "killed" / "indicators" / "trained-s0" / "importance.jsonl"
    wait_until(log.exists)  # written by a worker, at its first step
    workers = [Path("/proc") / pid for pid in children.read_text().split()]
    run.kill()
    run.wait()
    assert workers
    wait_until(lambda: not any(worker.exists() for worker in workers))


def wait_until(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
