"""Two processes (gloo) at half the batch do what one does at the whole batch."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llt_nncf.indicators import train_indicators
from tests.devices import NCCL_ENVIRONMENT
from tests.devices import RANKS
from tests.indicators.tiny_net import CANDIDATES
from tests.indicators.tiny_net import batches
from tests.indicators.tiny_net import loss_fn
from tests.indicators.tiny_net import quantizer_set
from tests.indicators.tiny_net import started_net

SCRIPT = """
import os
import sys
import torch

from tests.indicators.tiny_net import CANDIDATES, batches, loss_fn, quantizer_set, started_net
from llt_nncf.indicators import train_indicators


def work(rank, folder, device, backend):
    os.environ["NCCL_HOSTID"] = f"machine-{rank}"
    torch.distributed.init_process_group(backend, init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    net = started_net().double().to(device)
    with torch.no_grad():
        net.fc.weight += rank  # the first rank's parameters hold for all
    data = [(x[rank::2].double(), y[rank::2]) for x, y in batches(11)[: 10 + rank]]  # and the shorter loader
    result = train_indicators(net, quantizer_set(net), data, loss_fn, candidate_bits=CANDIDATES)
    torch.save({"net": net.state_dict(), "steps": result.steps, "losses": result.losses}, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(work, sys.argv[1:], 2)
"""


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess:
    (folder / "main.py").write_text(script)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", **NCCL_ENVIRONMENT}
    command = [sys.executable, "main.py", str(folder), *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


@RANKS
def test_two_ranks_at_half_batch_are_one_at_full_batch(tmp_path, device, backend):
    done = run(tmp_path, SCRIPT, device, backend)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    net = started_net().double().to(device)
    data = [(x.double(), y) for x, y in batches(11)[:10]]
    result = train_indicators(net, quantizer_set(net), data, loss_fn, candidate_bits=CANDIDATES)
    assert first["steps"] == second["steps"] == result.steps == 10
    for name, value in net.state_dict().items():
        assert torch.equal(first["net"][name], second["net"][name]), name
        # Sums in another order, in float64, over ten steps.
        torch.testing.assert_close(first["net"][name], value, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(first["losses"], result.losses, rtol=1e-9, atol=1e-12)


UNUSED = """
import sys
import torch

from tests.indicators.tiny_net import CANDIDATES, TinyNet, batches, loss_fn, quantizer_set, started_net
from llt_nncf.indicators import train_indicators


class Headed(TinyNet):
    def __init__(self):
        super().__init__()
        self.heads = torch.nn.ModuleList([torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)])
        self.used = [0, 1]

    def forward(self, x):
        logits = super().forward(x)
        return sum(self.heads[index](logits) for index in self.used)


def work(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    net = started_net(Headed).double()
    net.used = [rank]
    start = [head.weight.detach().clone() for head in net.heads]
    gradients = []
    options = {"candidate_bits": CANDIDATES, "momentum": 0.0, "weight_decay": 0.0, "max_steps": 1}
    data = [(x.double(), y) for x, y in batches(1)]

    def noted(model, batch):
        loss = loss_fn(model, batch)
        gradients.append(torch.autograd.grad(loss, model.heads[rank].weight, retain_graph=True)[0])
        return loss

    train_indicators(net, quantizer_set(net), data, noted, learning_rate=0.01, **options)
    moved = [head.weight.detach() - before for head, before in zip(net.heads, start)]
    torch.save({"moved": moved, "gradient": sum(gradients)}, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(work, sys.argv[1:], 2)
"""


def test_what_one_rank_alone_uses_moves_by_half_its_gradient_on_both(tmp_path):
    done = run(tmp_path, UNUSED)
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    for head, rank in enumerate(ranks):
        for other in ranks:
            # The mean over the ranks: the other has no gradient for this head. Learning rate 0.01.
            torch.testing.assert_close(other["moved"][head], -0.01 * rank["gradient"] / 2, rtol=1e-9, atol=1e-14)


FAULTY = """
import os, signal, sys
from datetime import timedelta
import torch
from torch.utils.data import DataLoader

from tests.indicators.tiny_net import CANDIDATES, NoisySet, loss_fn, quantizer_set, started_net
from llt_nncf.indicators import made_by_first_rank, train_indicators

folder, fault, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/rendezvous-{fault}", rank=rank, world_size=2, timeout=timedelta(seconds=90)
)
net = started_net()
loader = DataLoader(NoisySet(28), batch_size=4, shuffle=True)
torch.manual_seed(rank)  # each rank augments by another generator


def spoilt_loss(model, batch):
    spoilt = rank == 1 and fault == "nan" and batch is batches[4]
    return loss_fn(model, batch) * (float("nan") if spoilt else 1.0)


def on_step(record):
    if rank == 1 and record.step == 5 and fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if rank == 1 and record.step == 5 and fault == "exception":
        raise KeyError("of rank 1 alone")


if fault == "first-rank":
    made_by_first_rank(lambda: {}["of the first rank alone"])
options = {"candidate_bits": CANDIDATES, "epochs": 2, "on_step": [on_step]}
if fault == "uneven":
    batches = iter(list(loader)[rank:])  # an iterator has no length
    print(train_indicators(net, quantizer_set(net), batches, loss_fn, **{**options, "epochs": 1}).steps)
elif fault == "nan":
    batches = list(loader)
    train_indicators(net, quantizer_set(net), batches, spoilt_loss, **options)
else:
    files = {"checkpoint": f"{folder}/importance.ckpt", "checkpoint_every": 3}
    train_indicators(net, quantizer_set(net), loader, loss_fn, **options, **files)
    torch.save(net.state_dict(), f"{folder}/rank{rank}.pt")
torch.distributed.destroy_process_group()
"""


def run_two(folder: Path, fault: str) -> list[tuple[int, str, str]]:
    """Two processes that nobody ends if the other one fails; status, output and errors of each."""
    (folder / "main.py").write_text(FAULTY)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ranks = [
        subprocess.Popen([sys.executable, "main.py", str(folder), fault, str(rank)], cwd=folder, env=env, **pipes)
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=120) for rank in ranks]
    return [(rank.returncode, *output) for rank, output in zip(ranks, outputs, strict=True)]


def test_a_killed_rank_ends_the_other_and_both_resume_to_where_uninterrupted_ones_end(tmp_path):
    ends = {}
    for name, faults in (("whole", ["none"]), ("killed", ["kill", "none"])):
        folder = tmp_path / name
        folder.mkdir()
        for fault in faults:
            first, second = run_two(folder, fault)
            if fault == "kill":
                assert second[0] == -signal.SIGKILL
                assert first[0] != 0
                assert "RankExchangeError: Rank 0 of 2 could not exchange with the others" in first[2]
            else:
                assert first[0] == second[0] == 0, first[2] + second[2]
        ends[name] = [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]
    for rank in range(2):
        for name, value in ends["whole"][rank].items():
            assert torch.equal(ends["killed"][rank][name], value), name


@pytest.mark.parametrize(
    ("fault", "of_first", "of_second"),
    [
        ("nan", "TrainingDivergedError: Importance training diverged at step 4", "TrainingDivergedError"),
        ("first-rank", "KeyError: 'of the first rank alone'", "RankExchangeError: The first rank failed: KeyError"),
        pytest.param("exception", "RankExchangeError", "KeyError: 'of rank 1 alone'", marks=pytest.mark.slow),
    ],
    ids=["loss-not-finite", "exception-while-the-others-wait", "exception"],
)
def test_a_fault_of_one_rank_is_an_error_on_both(tmp_path, fault, of_first, of_second):
    first, second = run_two(tmp_path, fault)
    # Not 1: now and then gloo's threads abort a process whose peer is gone first, after its traceback.
    assert 0 not in (first[0], second[0])
    assert of_first in first[2]
    assert of_second in second[2]


@pytest.mark.slow
def test_loaders_that_do_not_know_their_length_end_with_the_shortest(tmp_path):
    first, second = run_two(tmp_path, "uneven")
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert first[1].split()[-1] == second[1].split()[-1] == "6"
