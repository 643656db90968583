"""The command line, as its users call it."""

import subprocess
import sys
from pathlib import Path

import pytest

from llt_nncf.cli.main import main

# A script as NNCF's documentation has it; nothing in it knows of this package.
SCRIPT = """
import sys
import torch
from nncf import NNCFConfig
from nncf.torch import create_compressed_model, register_default_init_args
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
)
loader = DataLoader(TensorDataset(torch.randn(32, 1, 8, 8), torch.arange(32) % 2), batch_size=16)
config = NNCFConfig.from_json(sys.argv[1])
config = register_default_init_args(config, loader, criterion=nn.CrossEntropyLoss())
ctrl, model = create_compressed_model(model, config, dump_graphs=False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
ctrl.scheduler.epoch_step()
for images, target in loader:
    ctrl.scheduler.step()
    loss = nn.functional.cross_entropy(model(images), target) + ctrl.loss()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(ctrl.statistics().to_str())
ctrl.export_model(sys.argv[2])
"""
CONFIG = """{
  "input_info": {"sample_size": [1, 1, 8, 8]},
  "compression": {
    "algorithm": "llt_quantization",
    "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
    "initializer": {"batchnorm_adaptation": {"num_bn_adaptation_samples": 0}}
  }
}"""


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "llt_nncf.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Processes that the tests start find the package of this checkout, and nothing that another test registered."""
    monkeypatch.delenv("NNCF_TORCH_LEGACY_TRACING", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def test_run_switches_the_algorithm_on_in_an_unmodified_script(tmp_path):
    (tmp_path / "main.py").write_text(SCRIPT)
    (tmp_path / "config.json").write_text(CONFIG)
    done = call("run", "main.py", "config.json", "model.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "GBitOPs" in done.stdout
    assert (tmp_path / "model.onnx").exists()


def test_registering_after_nncf_torch_is_refused_with_the_remedy(tmp_path):
    code = "import nncf.torch\nimport llt_nncf.register"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RegistrationError" in done.stderr
    assert "above the first import of nncf.torch" in done.stderr


def test_help_lists_the_commands_within_the_width_of_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert all(
        word in out for word in ("run", "search", "frontier", "import-limpq", "latency-table", "export", "validate")
    )
