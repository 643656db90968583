"""Two processes of torchrun (gloo), each with half of the data: they agree on policy, bits, step sizes and weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.devices import NCCL_ENVIRONMENT
from tests.devices import RANKS

SCRIPT = """
import sys

import llt_nncf.register
import torch
from nncf import NNCFConfig
from nncf.torch import create_compressed_model, register_default_init_args
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def work(folder, where, indicator, most_bits, backend="gloo"):
    torch.distributed.init_process_group(backend)
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )
    images, labels = torch.randn(64, 1, 8, 8), torch.arange(64) // 2 % 2
    loader = DataLoader(TensorDataset(images[rank::2] * (1 + 4 * rank), labels[rank::2]), batch_size=8)
    section = {
        "algorithm": "llt_quantization",
        "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}, "average_weight_bits": float(most_bits)},
        "importance": {"where": where, "indicator": indicator},
        "initializer": {"range": {"num_init_samples": 16}, "batchnorm_adaptation": {"num_bn_adaptation_samples": 0}},
    }
    config = NNCFConfig.from_dict({"input_info": {"sample_size": [1, 1, 8, 8]}, "compression": section})
    config = register_default_init_args(config, loader, criterion=nn.CrossEntropyLoss())
    ctrl, model = create_compressed_model(model, config, dump_graphs=False)
    if backend != "gloo":
        return
    ctrl.distributed()
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.01)
    for _ in range(2):
        ctrl.scheduler.epoch_step()
        for x, y in loader:
            optimizer.zero_grad()
            for _ in ctrl.policies(parallel):
                nn.functional.cross_entropy(parallel(x), y).backward()
            optimizer.step()
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    indicators = [dict(ctrl.indicators.weights), dict(ctrl.indicators.activations)]
    found = {"policy": ctrl.policy.to_dict(), "indicators": indicators, "parameters": parameters}
    torch.save(found, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    work(*sys.argv[1:])
"""

LOOP = """
import os
import sys
from contextlib import nullcontext

import llt_nncf.register
import torch
from nncf import NNCFConfig
from nncf.torch import create_compressed_model, register_default_init_args
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

device, backend = sys.argv[3:]
os.environ["NCCL_HOSTID"] = "machine-" + os.environ["RANK"]
torch.distributed.init_process_group(backend)
rank, ranks, parts = torch.distributed.get_rank(), torch.distributed.get_world_size(), int(sys.argv[2])
torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Flatten(),
    nn.Linear(64, 2),
)
images, labels = torch.randn(64, 1, 8, 8), torch.arange(64) // 2 % 2
section = {
    "algorithm": "llt_quantization",
    "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
    "importance": {"where": "training"},
    "initializer": {"range": {"num_init_samples": 16}, "batchnorm_adaptation": {"num_bn_adaptation_samples": 0}},
}
config = NNCFConfig.from_dict({"input_info": {"sample_size": [1, 1, 8, 8]}, "compression": section})
config = register_default_init_args(config, DataLoader(TensorDataset(images, labels), batch_size=8))
ctrl, model = create_compressed_model(model.to(device), config, dump_graphs=False)
ctrl.distributed()
images, labels = images.to(device), labels.to(device)
# In float64, where sums in another order do not soon round some activation differently.
parallel = nn.parallel.DistributedDataParallel(model.double())
optimizer = torch.optim.SGD(parallel.parameters(), lr=0.01, momentum=0.9)
ctrl.scheduler.epoch_step()
for x, y in zip(images.double().split(16), labels.split(16)):
    optimizer.zero_grad()
    for part in range(parts):
        own = slice(rank + ranks * part, None, ranks * parts)
        with parallel.no_sync() if part < parts - 1 else nullcontext():
            for _ in ctrl.policies(parallel, accumulation_steps=parts):
                (nn.functional.cross_entropy(parallel(x[own]), y[own]) / parts).backward()
    optimizer.step()
values = {name: value.detach() for name, value in model.named_parameters()}
torch.save(values, f"{sys.argv[1]}/{ranks}-{parts}-{rank}.pt")
torch.distributed.destroy_process_group()
"""


def run_by_torchrun(folder: Path, script: str, *arguments: str, ranks: int = 2) -> subprocess.CompletedProcess:
    (folder / "main.py").write_text(script)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", **NCCL_ENVIRONMENT}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [*torchrun, "main.py", str(folder), *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)


@RANKS
def test_two_ranks_that_accumulate_parts_of_the_batch_are_one_with_all_of_it(tmp_path, device, backend):
    for ranks, parts in ((1, 1), (2, 2)):
        done = run_by_torchrun(tmp_path, LOOP, str(parts), device, backend, ranks=ranks)
        assert done.returncode == 0, done.stderr
    whole, *halves = (torch.load(tmp_path / f"{name}.pt") for name in ("1-1-0", "2-2-0", "2-2-1"))
    for half in halves:
        assert half.keys() == whole.keys()
        for name, value in whole.items():
            torch.testing.assert_close(half[name], value, rtol=1e-9, atol=1e-12, msg=lambda _, name=name: name)


# Like NCCL it exchanges nothing that is on a CPU.
WITHOUT_CPU = "cuda:gloo"


def test_one_rank_exchanges_nothing_and_needs_no_backend_for_it(tmp_path):
    done = run_by_torchrun(tmp_path, SCRIPT, "init", "step_size", "8", WITHOUT_CPU, ranks=1)
    assert done.returncode == 0, done.stderr


def test_a_model_on_the_cpu_in_a_group_of_gpus_is_refused_by_name(tmp_path):
    done = run_by_torchrun(tmp_path, SCRIPT, "init", "step_size", "8", WITHOUT_CPU)
    assert done.returncode == 1
    assert "RankExchangeError: The process group's backend 'cuda:gloo' cannot exchange" in done.stderr
    assert "Move the model to its GPU before create_compressed_model" in done.stderr


# Normalized indicators depend on data and batch norm statistics, of which each rank has its own.
@pytest.mark.parametrize(("where", "indicator"), [("init", "step_size"), ("training", "normalized")])
def test_both_ranks_end_with_the_same_model(tmp_path, where, indicator):
    done = run_by_torchrun(tmp_path, SCRIPT, where, indicator, "8")
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert first["policy"] == second["policy"]
    assert first["indicators"] == second["indicators"]
    for name, value in first["parameters"].items():
        torch.testing.assert_close(value, second["parameters"][name], rtol=0, atol=0, msg=lambda _, name=name: name)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["init", "training"])
def test_a_budget_that_cannot_be_met_ends_both_ranks(tmp_path, where):
    done = run_by_torchrun(tmp_path, SCRIPT, where, "step_size", "1")
    assert done.returncode == 1
    assert "InfeasibleBudgetError" in done.stderr
    assert not list(tmp_path.glob("*.pt"))
