"""Two processes (gloo) at half the batch do what one does at the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from llt_nncf.indicators import train_indicators
from tests.indicators.tiny_net import CANDIDATES
from tests.indicators.tiny_net import batches
from tests.indicators.tiny_net import loss_fn
from tests.indicators.tiny_net import quantizer_set
from tests.indicators.tiny_net import started_net

SCRIPT = """
import sys
import torch

from tests.indicators.tiny_net import CANDIDATES, batches, loss_fn, quantizer_set, started_net
from llt_nncf.indicators import train_indicators


def work(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    net = started_net().double()
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
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "main.py", str(folder), *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_two_ranks_at_half_batch_are_one_at_full_batch(tmp_path):
    done = run(tmp_path, SCRIPT)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    net = started_net().double()
    data = [(x.double(), y) for x, y in batches(11)[:10]]
    result = train_indicators(net, quantizer_set(net), data, loss_fn, candidate_bits=CANDIDATES)
    assert first["steps"] == second["steps"] == result.steps == 10
    for name, value in net.state_dict().items():
        assert torch.equal(first["net"][name], second["net"][name]), name
        # Sums in another order, in float64, over ten steps.
        torch.testing.assert_close(first["net"][name], value, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(first["losses"], result.losses, rtol=1e-9, atol=1e-12)


KILLED = """
import os, signal, sys
import torch
from torch.utils.data import DataLoader

from tests.indicators.tiny_net import CANDIDATES, NoisySet, loss_fn, quantizer_set, started_net
from llt_nncf.indicators import train_indicators


def work(rank, folder, kill_at):
    init = f"file://{folder}/rendezvous-{kill_at}"
    torch.distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    net = started_net()
    loader = DataLoader(NoisySet(28), batch_size=4, shuffle=True)
    torch.manual_seed(rank)  # each rank augments by another generator

    def on_step(record):
        if record.step == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    train_indicators(
        net, quantizer_set(net), loader, loss_fn, candidate_bits=CANDIDATES, epochs=2, on_step=[on_step],
        checkpoint=f"{folder}/importance.ckpt", checkpoint_every=3,
    )
    torch.save(net.state_dict(), f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(work, sys.argv[1:], 2)
"""


def test_two_ranks_that_are_killed_end_where_uninterrupted_ones_end(tmp_path):
    ends = {}
    for name, kills in (("whole", [0]), ("killed", [5, 0])):
        folder = tmp_path / name
        folder.mkdir()
        for kill_at in kills:
            done = run(folder, KILLED, str(kill_at))
            assert (done.returncode == 0) == (kill_at == 0), done.stderr
        ends[name] = [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]
    for rank in range(2):
        for name, value in ends["whole"][rank].items():
            assert torch.equal(ends["killed"][rank][name], value), name
