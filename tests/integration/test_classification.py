"""A training script that knows nothing of the package: trained, killed, resumed, tested and exported by it."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import llt_nncf.register  # noqa: F401

# isort: split

import onnxruntime
import openvino as ov
import pytest
import torch
from nncf import NNCFConfig
from nncf.api.compression import CompressionStage
from nncf.torch import create_compressed_model
from nncf.torch import load_state
from torch import Tensor

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "classification.py"
BY_LAUNCHER = ["-m", "llt_nncf.cli", "run", str(SCRIPT)]
CONFIG = {
    "input_info": {"sample_size": [1, 1, 8, 8]},
    "compression": {
        "algorithm": "llt_quantization",
        "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
        "importance": {"epochs": 2},
        "initializer": {
            "range": {"num_init_samples": 120},
            "batchnorm_adaptation": {"num_bn_adaptation_samples": 120},
        },
    },
}


def start(folder: Path, program: list[str], *arguments: str) -> subprocess.Popen:
    """Starts the script with its logs in ``folder``/log; it trains for two epochs of 20 steps."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    env.pop("NNCF_TORCH_LEGACY_TRACING", None)
    command = [sys.executable, *program, "--config", "config.json", "--log-dir", "log", "--epochs", "2", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def kill_at_line(process: subprocess.Popen, beginning: str) -> None:
    seen = []
    with process:
        for line in process.stdout:
            seen.append(line)
            if line.startswith(beginning):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL, "".join(seen)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals([CompressionStage]):
        return torch.load(folder / "log" / "last.pth")


def assert_same_end(folder: Path, other: Path) -> None:
    """Weights, optimizer, generators, policy and indicators, and what the script measured."""
    one, two = (load_checkpoint(path) for path in (folder, other))
    for key, value in flat(one).items():
        theirs = flat(two)[key]
        assert torch.equal(value, theirs) if isinstance(value, Tensor) else value == theirs, key
    for name in ("policy.json", "indicators.json", "layers.json"):
        assert (folder / "log" / name).read_bytes() == (other / "log" / name).read_bytes(), name
    assert json.loads((folder / "metrics.json").read_text()) == json.loads((other / "metrics.json").read_text())


def flat(content: object, path: str = "") -> dict[str, object]:
    if isinstance(content, list | tuple):
        content = dict(enumerate(content))
    if not isinstance(content, dict):
        return {path: content}
    return {key: leaf for name, value in content.items() for key, leaf in flat(value, f"{path}/{name}").items()}


def frozen_outputs(folder: Path) -> tuple[Tensor, Tensor]:
    """Test images, and what the frozen model makes of them."""
    spec = importlib.util.spec_from_file_location("classification", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    checkpoint = load_checkpoint(folder)
    config = NNCFConfig.from_dict(CONFIG)
    controller, model = create_compressed_model(
        script.Net(), config, compression_state=checkpoint["compression_state"], dump_graphs=False
    )
    load_state(model, checkpoint["state_dict"], is_resume=True)
    _, loader = script.load_data(script.parse(["--config", "config.json"]))
    images = torch.cat([images for images, _ in loader])
    with torch.no_grad():
        return images, controller.strip()(images)


def assert_computes(path: Path, images: Tensor, expected: Tensor) -> None:
    """Other kernels add floats in another order, so that some activation may round to its neighbour."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)
        feed = session.get_inputs()[0]
        rows = [session.run(None, {feed.name: image[None].numpy()})[0] for image in images]
    else:
        # Where the CPU can, OpenVINO would compute what is float in bfloat16.
        compiled = ov.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        rows = [compiled(image[None].numpy())[0] for image in images]
    found = torch.cat([torch.from_numpy(row) for row in rows])
    differing = ((found - expected).abs() > 1e-4 * expected.abs().max()).any(1)
    assert differing.float().mean() <= 0.01


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a run that nothing interrupted, by ``llt-nncf run``."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = ["--mode", "train", "test", "export", "--metrics-dump", "metrics.json"]
    output = finish(start(folder, BY_LAUNCHER, *arguments, "--export-model-path", "model.onnx"))
    assert "epoch 1 done" in output
    assert "GBitOPs" in output
    return folder


def test_killed_amid_an_epoch_and_resumed_it_ends_as_if_it_had_not_been(whole, tmp_path):
    # This one by the import line.
    script = tmp_path / "with_line.py"
    script.write_text(SCRIPT.read_text().replace("import argparse", "import llt_nncf.register\nimport argparse", 1))
    kill_at_line(start(tmp_path, [str(script)]), "epoch 1, step 10")
    arguments = ["--mode", "train", "test", "export", "--resume", "log/last.pth", "--metrics-dump", "metrics.json"]
    finish(start(tmp_path, [str(script)], *arguments, "--export-model-path", "model.xml"))
    assert_same_end(whole, tmp_path)
    images, expected = frozen_outputs(whole)
    assert_computes(whole / "model.onnx", images, expected)
    assert_computes(tmp_path / "model.xml", images, expected)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 25], ids=["before-a-checkpoint", "after-one"])
def test_killed_amid_importance_training_it_goes_on_at_the_next_start(whole, tmp_path, steps):
    process = start(tmp_path, BY_LAUNCHER)
    log = tmp_path / "log" / "importance.jsonl"
    while not log.exists() or log.read_text().count("\n") < steps:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert (tmp_path / "log" / "importance.ckpt").exists() == (steps > 20)
    assert not (tmp_path / "log" / "indicators.json").exists()
    finish(start(tmp_path, BY_LAUNCHER, "--mode", "train", "test", "--metrics-dump", "metrics.json"))
    assert_same_end(whole, tmp_path)
    assert log.read_text().count("\n") == 40


@pytest.mark.slow
def test_torch_onnx_export_of_the_stripped_model_computes_what_the_frozen_one_does(whole, tmp_path):
    arguments = ["--mode", "export", "--resume", str(whole / "log" / "last.pth"), "--export-stripped"]
    finish(start(tmp_path, BY_LAUNCHER, *arguments, "--export-model-path", "stripped.onnx"))
    assert_computes(tmp_path / "stripped.onnx", *frozen_outputs(whole))


@pytest.mark.slow
def test_processes_that_the_script_spawns_train_one_model_and_resume(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    together = ["--multiprocessing-distributed", "--dist-url", url, "--metrics-dump", "metrics.json"]
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
    finish(start(folders[0], BY_LAUNCHER, "--mode", "train", "test", *together))
    kill_at_line(start(folders[1], BY_LAUNCHER, *together), "epoch 1, step 5")
    finish(start(folders[1], BY_LAUNCHER, "--mode", "train", "test", "--resume", "log/last.pth", *together))
    assert_same_end(*folders)
