"""``llt-nncf export``: a training checkpoint becomes files that passed, or none."""

import copy
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import llt_nncf.register  # noqa: F401

# isort: split

import numpy as np
import pytest
import torch
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

from llt_nncf.adapter.restore import restore
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import ValidationReport
from llt_nncf.cli.main import main
from llt_nncf.pipeline import deployment
from llt_nncf.quantizers import FrozenWeight

FACTORY = """
import torch
from torch import nn


def net(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )


def other():
    return net(classes=5)


def nothing():
    return 3


def broken():
    raise RuntimeError("no weights here")
"""
CONFIG = {
    "input_info": {"sample_size": [1, 2, 8, 8]},
    "compression": {
        "algorithm": "llt_quantization",
        "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
        "importance": {"max_steps": 2},
        "initializer": {"batchnorm_adaptation": {"num_bn_adaptation_samples": 64}},
    },
}
FILES = {"model.onnx", "model.xml", "model.bin", "float.onnx", "policy.json", "layers.json", "reference.npz"}
FILES |= {"bits.png", "indicators.png", "report.json"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with models.py, config.json, the checkpoint of a fine-tuned model, and samples."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "models.py").write_text(FACTORY)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    namespace: dict = {}
    exec(FACTORY, namespace)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(128) % 4
    images = torch.randn(4, 2, 8, 8, generator=generator)[labels] + 0.3 * torch.randn(128, 2, 8, 8, generator=generator)
    loader = DataLoader(TensorDataset(images, labels), batch_size=32)
    config = register_default_init_args(NNCFConfig.from_dict(copy.deepcopy(CONFIG)), loader, nn.CrossEntropyLoss())
    ctrl, model = create_compressed_model(namespace["net"](), config, dump_graphs=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(10):
        for x, target in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), target).backward()
            optimizer.step()
    checkpoint = {"model": model.state_dict(), "compression": ctrl.get_compression_state()}
    torch.save(checkpoint, folder / "checkpoint.pt")
    np.savez(folder / "samples.npz", inputs=images.numpy(), labels=labels.numpy())
    ctrl.policy.save(folder / "policy.json")
    with torch.no_grad():
        np.save(folder / "logits.npy", model.eval()(images).numpy())
    return folder


def arguments(folder, out, *more, model="models.py:net", config="config.json", checkpoint="checkpoint.pt"):
    named = ["--model", str(folder / model), "--config", str(folder / config), "--checkpoint", str(folder / checkpoint)]
    return ["export", *named, "--out", str(out), "--latency-rounds", "0", *more]


def written(out):
    return {path.name for path in out.iterdir()} if out.exists() else set()


@pytest.fixture
def spoilt(monkeypatch):
    """One weight of the depthwise layer is another in the file than in the frozen model."""
    export = deployment.export_onnx

    def spoil(frozen, *args, **options):
        frozen = copy.deepcopy(frozen)
        weight = next(m for m in frozen.modules() if isinstance(m, FrozenWeight) and m.name == "3")
        weight.codes.view(-1)[0] = -weight.codes.view(-1)[0] if weight.codes.view(-1)[0] else 1
        return export(frozen, *args, **options)

    monkeypatch.setattr(deployment, "export_onnx", spoil)


def test_a_pass_leaves_the_complete_set_of_files(trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(arguments(trained, out, "--data", str(trained / "samples.npz"))) == 0
    assert written(out) == FILES
    assert "Validation passed" in capsys.readouterr().out
    report = ValidationReport.load(out / "report.json")
    assert report.passed
    assert not any("random inputs" in warning for warning in report.sections["warnings"])
    assert BitPolicy.load(out / "policy.json").bits == BitPolicy.load(trained / "policy.json").bits
    # The figures are those of the model that was fine-tuned.
    with np.load(out / "reference.npz") as reference:
        np.testing.assert_allclose(reference["logits"], np.load(trained / "logits.npy"), rtol=1e-4, atol=1e-4)
        assert reference["labels"].shape == (128,)
    assert main(["validate", str(out), "--latency-rounds", "0"]) == 0


def test_nncfs_post_training_int8_is_made_beside_it_when_asked_for(trained, tmp_path):
    out = tmp_path / "out"
    assert main(arguments(trained, out, "--data", str(trained / "samples.npz"), "--post-training")) == 0
    assert written(out) == FILES | {"nncf_ptq.onnx", "nncf_ptq.xml", "nncf_ptq.bin"}


def test_a_checkpoint_with_nncfs_names_is_read_too(trained, tmp_path):
    saved = torch.load(trained / "checkpoint.pt", weights_only=True)
    renamed = {"epoch": 3, "state_dict": saved["model"], "compression_state": saved["compression"]}
    torch.save(renamed, tmp_path / "last.pth")
    namespace: dict = {}
    exec(FACTORY, namespace)
    controller = restore(namespace["net"](), trained / "config.json", tmp_path / "last.pth")
    assert controller.policy.bits == BitPolicy.load(trained / "policy.json").bits
    state = controller.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in saved["model"].items())


def test_without_samples_seeded_random_inputs_are_taken_and_said(trained, tmp_path, capsys):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        more = ["--seed", seed, "--num-samples", "64", "--min-agreement", "0.9"]
        assert main(arguments(trained, tmp_path / name, *more)) == 0
    assert "64 random inputs (standard normal, seed 2)" in capsys.readouterr().out.replace("\n", " ")
    assert "64 random inputs" in " ".join(ValidationReport.load(tmp_path / "a/report.json").sections["warnings"])
    inputs = [np.load(tmp_path / name / "reference.npz")["inputs"] for name in "abc"]
    assert inputs[0].shape == (64, 2, 8, 8)
    np.testing.assert_array_equal(inputs[0], inputs[1])
    assert not np.array_equal(inputs[0], inputs[2])


def test_a_mismatch_leaves_no_file_and_names_the_layer(trained, tmp_path, capsys, spoilt):
    out = tmp_path / "new" / "out"
    assert main(arguments(trained, out, "--data", str(trained / "samples.npz"))) == 1
    assert not out.exists()
    text = " ".join(capsys.readouterr().out.split())
    assert "Validation failed" in text
    assert "The weights of '3'" in text
    assert "No file was written" in text


def test_a_mismatch_leaves_an_older_export_as_it_was(trained, tmp_path, request):
    out = tmp_path / "out"
    data = ["--data", str(trained / "samples.npz")]
    assert main(arguments(trained, out, *data)) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    request.getfixturevalue("spoilt")
    assert main(arguments(trained, out, *data)) == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_files_that_only_an_older_export_has_go_with_its_report(trained, tmp_path):
    out = tmp_path / "out"
    data = ["--data", str(trained / "samples.npz")]
    assert main(arguments(trained, out, *data, "--post-training")) == 0
    assert "nncf_ptq.xml" in written(out)
    (out / "notes.txt").write_text("Somebody's own.")
    assert main(arguments(trained, out, *data)) == 0
    assert written(out) == FILES | {"notes.txt"}


KILLED = """
import os, signal, sys
import llt_nncf.register
from llt_nncf.cli.main import main
from llt_nncf.pipeline import deployment, staging

when = sys.argv.pop(1)
if when == "validating":
    deployment.validate = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)
else:
    replace, done = os.replace, []

    def replace_and_die(*args):
        if len(done) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(replace(*args))

    publish = deployment.publish

    def publish_and_die(*args):
        os.replace = replace_and_die
        publish(*args)

    deployment.publish = publish_and_die
main(sys.argv[1:])
"""


@pytest.mark.parametrize("when", ["validating", "publishing"])
def test_a_kill_leaves_no_half_written_file_and_no_report_that_is_not_the_files(trained, tmp_path, when):
    out = tmp_path / "out"
    data = ["--data", str(trained / "samples.npz")]
    assert main(arguments(trained, out, *data)) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (tmp_path / "main.py").write_text(KILLED)
    command = [sys.executable, "main.py", when, *arguments(trained, out, *data)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    after = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}
    assert set(after) == (FILES if when == "validating" else FILES - {"report.json"})
    # The same checkpoint gives the same files, so that a whole file, old or new, has the old one's bytes.
    assert {name for name in after if len(after[name]) != len(before[name])} == set()


def corrupted(trained, tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "missing.py:net"}, "missing.py: no such file"),
        ({"model": "models.py:nets"}, "no function 'nets' in the file; it has net, other, nothing, broken"),
        ({"model": "models.py:nothing"}, "returned int; it must return the float model"),
        ({"model": "models.py:broken"}, "RuntimeError: no weights here (.*models.py, line 24)"),
        (
            {"model": "models.py:other"},
            "checkpoint.pt: .*of another model: '10' has weights of [5, 8] here and of [4, 8] there",
        ),
        ({"model": "models.py"}, "give FILE.py:FACTORY or torchvision:NAME"),
        ({"config": "missing.json"}, "missing.json"),
        ({"config": "models.py"}, "not an NNCF config in JSON"),
        ({"checkpoint": "missing.pt"}, "missing.pt"),
        ({"checkpoint": "config.json"}, "not a checkpoint of tensors and plain values"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_bad_input_is_named_with_status_2_and_leaves_nothing(trained, tmp_path, capsys, changes, words):
    assert main(arguments(trained, tmp_path / "out", **changes)) == 2
    error = capsys.readouterr().err
    assert error.startswith("llt-nncf export: ")
    assert all(word in error for word in words.split(".*"))
    assert not (tmp_path / "out").exists()


class Harmful:
    """Unpickled it would run a command."""

    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": {}}, "has ['state_dict']; must have 'model' and 'compression'"),
        ([1], "has list; must have 'model' and 'compression'"),
        ({"model": {}, "compression": {}}, ".pt: compression_state: has no 'builder_state'"),
        ({"model": Harmful(), "compression": {}}, "not a checkpoint of tensors and plain values"),
        (b"", "not a checkpoint of tensors and plain values"),
    ],
    ids=["other-keys", "list", "empty", "harmful", "no-bytes"],
)
def test_bad_checkpoints_are_named_with_status_2(trained, tmp_path, capsys, content, words):
    path = corrupted(trained, tmp_path, content)
    assert main(arguments(trained, tmp_path / "out", checkpoint=path)) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((2, 2, 8, 8))}, "has the arrays ['images'], but no 'inputs'"),
        ({"inputs": np.zeros((2, 2, 8, 8), np.uint8)}, "inputs is uint8 of shape (2, 2, 8, 8), and must be floats"),
        ({"inputs": np.zeros((2, 3, 8, 8))}, "inputs of shape [3, 8, 8]; the config's input_info has [2, 8, 8]"),
        ({"inputs": np.zeros((2, 2, 8, 8)), "labels": np.zeros(3)}, "labels has shape (3,) for 2 inputs"),
        ({"inputs": np.full((2, 2, 8, 8), np.nan)}, "NaN or infinite"),
        ({"inputs": np.zeros((0, 2, 8, 8))}, "inputs is float64 of shape (0, 2, 8, 8), and must be floats"),
        ({"inputs": np.zeros((2, 2, 8, 8)), "labels": np.full(2, 0.7)}, "labels is float64, and must be integers"),
        ({"inputs": np.zeros((2, 2, 8, 8)), "labels": np.array(["a", "b"])}, "labels is <U1, and must be integers"),
    ],
    ids=["name", "images", "shape", "labels", "nan", "none", "real-labels", "named-labels"],
)
def test_bad_samples_are_named_with_status_2(trained, tmp_path, capsys, arrays, words):
    np.savez(tmp_path / "samples.npz", **arrays)
    assert main(arguments(trained, tmp_path / "out" / "net", "--data", str(tmp_path / "samples.npz"))) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_config_without_input_info_takes_it_from_the_samples_or_asks(trained, tmp_path, capsys):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"compression": CONFIG["compression"]}))
    assert main(arguments(trained, tmp_path / "out", config=config)) == 2
    assert "needs the input_info of one input" in capsys.readouterr().err
    assert main(arguments(trained, tmp_path / "out", "--data", str(trained / "samples.npz"), config=config)) == 0


def test_a_checkpoint_amid_importance_training_cannot_be_exported(trained, tmp_path, capsys):
    checkpoint = torch.load(trained / "checkpoint.pt", weights_only=False)
    checkpoint["compression"]["ctrl_state"]["llt_quantization"]["policy"] = None
    path = corrupted(trained, tmp_path, checkpoint)
    assert main(arguments(trained, tmp_path / "out", checkpoint=path)) == 2
    assert "no policy to freeze yet" in capsys.readouterr().err


def test_torchvisions_models_are_made_by_name():
    factory = importlib.import_module("llt_nncf.pipeline.model_factory")
    assert type(factory.make_model("torchvision:resnet18")).__name__ == "ResNet"
    with pytest.raises(factory.ArtifactError, match="torchvision has for example resnet18"):
        factory.make_model("torchvision:resnet19")
