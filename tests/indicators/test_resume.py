"""A training that is killed and resumed ends where an uninterrupted one ends, bit for bit."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler
from torch.utils.data import DataLoader
from torch.utils.data import RandomSampler

from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import TrainingDivergedError
from llt_nncf.indicators import train_indicators
from tests.devices import DEVICES
from tests.indicators.tiny_net import CANDIDATES
from tests.indicators.tiny_net import NoisySet
from tests.indicators.tiny_net import NormedNet
from tests.indicators.tiny_net import TinyNet
from tests.indicators.tiny_net import batches
from tests.indicators.tiny_net import loss_fn
from tests.indicators.tiny_net import quantizer_set
from tests.indicators.tiny_net import started_net

SCRIPT = """
import os, signal, sys
import torch
from torch.utils.data import DataLoader

from tests.indicators.tiny_net import CANDIDATES, NoisySet, loss_fn, quantizer_set, started_net
from llt_nncf.indicators import train_indicators

folder, kill_at, device = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.backends.cudnn.deterministic = True
net = started_net().to(device)
loader = DataLoader(NoisySet(56), batch_size=8, shuffle=True)
torch.manual_seed(5)


def on_step(record):
    if record.step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


result = train_indicators(
    net, quantizer_set(net), loader, loss_fn, candidate_bits=CANDIDATES, epochs=3, indicator_ema=0.9,
    stop_at_tau=1.0, tau_window=1000, log_every=2, checkpoint=f"{folder}/importance.ckpt", checkpoint_every=3,
    on_step=[on_step],
)
torch.save({"net": net.state_dict(), "losses": result.losses, "weights": result.indicators.weights}, f"{folder}/end.pt")
"""


def run(folder: Path, kill_at: int, device: str) -> int:
    (folder / "main.py").write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "main.py", str(folder), str(kill_at), device]
    return subprocess.run(command, cwd=folder, env=env, timeout=120, check=False).returncode


@DEVICES
@pytest.mark.parametrize("kill_at", [1, 5, 7, 16], ids=["before-any", "amid-an-epoch", "at-its-end", "later"])
def test_kill_9_loses_only_the_work_since_the_last_checkpoint(tmp_path, kill_at, device):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert run(tmp_path / "whole", 0, device) == 0
    assert run(tmp_path / "killed", kill_at, device) == -signal.SIGKILL
    assert (tmp_path / "killed/importance.ckpt").exists() == (kill_at > 3)
    assert run(tmp_path / "killed", 0, device) == 0
    whole, killed = (torch.load(tmp_path / name / "end.pt") for name in ("whole", "killed"))
    assert killed["losses"] == whole["losses"]
    assert killed["weights"] == whole["weights"]
    assert all(torch.equal(killed["net"][name], value) for name, value in whole["net"].items())


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    net = started_net()
    options = {"candidate_bits": CANDIDATES, "checkpoint": tmp_path / "c.ckpt"}
    train_indicators(net, quantizer_set(net), batches(2), loss_fn, **options)
    with pytest.raises(ArtifactError, match=r"learning_rate was 0.01, now 0.5; .*Delete it.*c.ckpt"):
        train_indicators(net, quantizer_set(net), batches(2), loss_fn, learning_rate=0.5, **options)
    other = started_net()
    with torch.no_grad():
        next(parameter for name, parameter in other.named_parameters() if name.endswith("weight")).add_(1.0)
    with pytest.raises(ArtifactError, match=r"digest of the weights before it was '\w+', now '\w+'. Delete it"):
        train_indicators(other, quantizer_set(other), batches(2), loss_fn, **options)
    quantizers = quantizer_set(net)
    first, *rest = quantizers.table.layers
    larger = LayerTable((replace(first, macs=1_000_001), *rest), quantizers.table.unsearched)
    with pytest.raises(ArtifactError, match=f"; layer {first.name} was .*'macs': 1000001") as caught:
        train_indicators(net, replace(quantizers, table=larger), batches(2), loss_fn, **options)
    assert f"layer {rest[0].name} " not in str(caught.value)
    (tmp_path / "c.ckpt").write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError, match=r"no checkpoint.*c.ckpt"):
        train_indicators(net, quantizer_set(net), batches(2), loss_fn, **options)


def interrupted(checkpoint: Path, loader, at: int = 4) -> None:
    def on_step(record):
        if record.step == at:
            raise KeyboardInterrupt

    net = started_net()
    options = {"checkpoint": checkpoint, "checkpoint_every": 1, "on_step": [on_step], "epochs": 2}
    with pytest.raises(KeyboardInterrupt):
        train_indicators(net, quantizer_set(net), loader, loss_fn, candidate_bits=CANDIDATES, **options)


class Unsized:
    """Batches that do not say how many they are."""

    def __init__(self, data):
        self._data = data

    def __iter__(self):
        return iter(self._data)


def test_a_resume_with_another_number_of_batches_is_refused(tmp_path):
    path = tmp_path / "c.ckpt"
    interrupted(path, batches(6))
    for count in (2, 7):
        net = started_net()
        with pytest.raises(ArtifactError, match=rf"batches per epoch was 6, now {count}. Delete it.*c.ckpt"):
            train_indicators(
                net, quantizer_set(net), batches(count), loss_fn, candidate_bits=CANDIDATES, epochs=2, checkpoint=path
            )


def test_a_resume_with_too_few_batches_is_refused_where_nobody_knows_how_many_there_are(tmp_path):
    path, net = tmp_path / "c.ckpt", started_net()
    interrupted(path, Unsized(batches(6)))
    with pytest.raises(ArtifactError, match=r"c.ckpt had come to batch 3 of an epoch, .* ends after 2: .* delete"):
        train_indicators(
            net, quantizer_set(net), Unsized(batches(2)), loss_fn, candidate_bits=CANDIDATES, epochs=2, checkpoint=path
        )


def test_a_training_that_diverged_goes_on_without_the_bad_batch(tmp_path):
    path, data = tmp_path / "c.ckpt", batches(4)
    data[2] = (data[2][0] * float("nan"), data[2][1])
    options = {"candidate_bits": CANDIDATES, "checkpoint": path}
    bad, resumed, skipping = (started_net() for _ in range(3))
    with pytest.raises(
        TrainingDivergedError, match=r'"skip" leaves out .*From .*c.ckpt it goes on with that; .*delete'
    ):
        train_indicators(bad, quantizer_set(bad), data, loss_fn, **options)
    result = train_indicators(resumed, quantizer_set(resumed), data, loss_fn, on_nonfinite="skip", **options)
    assert (result.steps, result.skipped_steps) == (4, 1)
    train_indicators(skipping, quantizer_set(skipping), data, loss_fn, candidate_bits=CANDIDATES, on_nonfinite="skip")
    for one, other in zip(skipping.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_training_that_was_over_when_it_was_killed_leaves_the_generators_as_it_did(tmp_path):
    after = []
    for seed in (5, 6):
        net = started_net()
        loader = DataLoader(NoisySet(56), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        options = {"candidate_bits": CANDIDATES, "max_steps": 4, "checkpoint": tmp_path / "c.ckpt"}
        train_indicators(net, quantizer_set(net), loader, loss_fn, **options)
        after.append((torch.rand(3), torch.rand(3, generator=loader.generator)))
    assert all(torch.equal(first, second) for first, second in zip(*after, strict=True))


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path):
    net, path = started_net(), tmp_path / "c.ckpt"
    options = {"candidate_bits": CANDIDATES, "checkpoint": path}
    train_indicators(net, quantizer_set(net), batches(2), loss_fn, **options)
    content = bytearray(path.read_bytes())
    at = content.index(net.conv.weight.detach().numpy().tobytes())
    content[at + 8] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a damaged one.*c.ckpt"):
        train_indicators(net, quantizer_set(net), batches(2), loss_fn, **options)


def test_a_training_that_diverges_keeps_what_was_good(tmp_path):
    bad, data = started_net(), batches(4)
    spoilt = [*data[:2], (data[2][0] * float("nan"), data[2][1]), data[3]]
    options = {"candidate_bits": CANDIDATES, "checkpoint": tmp_path / "c.ckpt"}
    with pytest.raises(TrainingDivergedError, match="step 2"):
        train_indicators(bad, quantizer_set(bad), spoilt, loss_fn, **options)
    good, resumed = started_net(), started_net()
    train_indicators(good, quantizer_set(good), data, loss_fn, candidate_bits=CANDIDATES)
    train_indicators(resumed, quantizer_set(resumed), data, loss_fn, **options)
    for one, other in zip(good.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("fault", [TrainingDivergedError, MemoryError], ids=["bad-batch", "error-amid-the-passes"])
def test_a_step_that_fails_leaves_no_trace_in_the_batch_norms(tmp_path, fault):
    data, passes = batches(4), []

    def faulty(model, batch):
        passes.append(1)
        loss = loss_fn(model, batch)
        if len(passes) == 11 and fault is MemoryError:  # the third of the four passes of step 2
            raise MemoryError
        return loss

    spoilt = [*data[:2], (data[2][0] * float("nan"), data[2][1]), data[3]] if fault is TrainingDivergedError else data
    options = {"candidate_bits": CANDIDATES, "checkpoint": tmp_path / "c.ckpt"}
    bad, good, resumed = (started_net(NormedNet) for _ in range(3))
    with pytest.raises(fault):
        train_indicators(bad, quantizer_set(bad), spoilt, faulty, **options)
    train_indicators(good, quantizer_set(good), data, loss_fn, candidate_bits=CANDIDATES)
    train_indicators(resumed, quantizer_set(resumed), data, loss_fn, **options)
    assert all(torch.equal(resumed.state_dict()[name], value) for name, value in good.state_dict().items())


@pytest.mark.parametrize("kill_at", [7, 10], ids=["after-an-epoch", "amid-the-next"])
def test_a_loader_with_a_generator_of_its_own_shuffles_on_after_a_resume(tmp_path, kill_at):
    def train(checkpoint: Path, stop_at: int | None = None):
        def on_step(record):
            if record.step == stop_at:
                raise KeyboardInterrupt

        torch.manual_seed(5)
        net, generator = started_net(), torch.Generator().manual_seed(1)
        loader = DataLoader(NoisySet(48), batch_size=8, shuffle=True, generator=generator)  # 6 steps an epoch
        options = {"checkpoint": checkpoint, "checkpoint_every": 3, "on_step": [on_step], "epochs": 3}
        train_indicators(net, quantizer_set(net), loader, loss_fn, candidate_bits=CANDIDATES, **options)
        return net.state_dict(), generator.get_state()

    whole, order = train(tmp_path / "whole.ckpt")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed.ckpt", kill_at)
    resumed, order_after_resume = train(tmp_path / "killed.ckpt")
    assert torch.equal(order_after_resume, order)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


class Changing(TinyNet):
    """A buffer that no state dict has, and one whose tensor every pass replaces; the outputs depend on both."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(1), persistent=False)
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x):
        self.passes += 1
        self.mean = 0.9 * self.mean + 0.1 * x.mean().detach() + 0.01
        return super().forward(x) * (1 + self.mean + 0.001 * self.passes)


def resumed(tmp_path: Path, make, loader, **options):
    """The state and the indicators of a training that was interrupted at its fourth step, and of a whole one."""
    ends = []
    for name, at in (("whole", None), ("interrupted", 4)):

        def on_step(record, at=at):
            if record.step == at:
                raise KeyboardInterrupt

        arguments = {"candidate_bits": CANDIDATES, "epochs": 2, "checkpoint": tmp_path / name, "checkpoint_every": 1}
        for attempt in range(1 if at is None else 2):
            net, on_steps = started_net(make), [] if attempt else [on_step]
            torch.manual_seed(5)
            try:
                result = train_indicators(
                    net, quantizer_set(net), loader(), loss_fn, on_step=on_steps, **arguments, **options
                )
            except KeyboardInterrupt:
                continue
        ends.append((result.indicators.weights, {**net.state_dict(), **dict(net.named_buffers())}))
    return ends


def test_buffers_outside_the_state_dict_and_replaced_ones_are_resumed(tmp_path):
    (weights, state), (other_weights, other) = resumed(tmp_path, Changing, lambda: batches(5))
    assert weights == other_weights
    assert state["passes"] == 2 + 2 * 5 * 4  # with those of the start values
    assert all(torch.equal(value, other[name]) for name, value in state.items())


def test_a_generator_of_the_batch_samplers_sampler_is_resumed(tmp_path):
    def loader():
        data = NoisySet(40)
        sampler = RandomSampler(data, generator=torch.Generator().manual_seed(3))
        return DataLoader(data, batch_sampler=BatchSampler(sampler, 8, drop_last=False))

    (weights, _), (other_weights, _) = resumed(tmp_path, TinyNet, loader)
    assert weights == other_weights


def test_numbers_of_numpy_among_the_options_are_saved_as_plain_ones(tmp_path):
    options = {"learning_rate": np.float64(0.01), "seed": np.int64(3), "learning_rate_per_bit": {2: np.float32(0.5)}}
    (weights, _), (other_weights, _) = resumed(tmp_path, TinyNet, lambda: batches(5), **options)
    assert weights == other_weights


def test_a_failed_step_leaves_a_buffer_that_it_replaced_as_it_was():
    net = started_net(Changing)
    passes, mean = net.passes.clone(), net.mean.clone()

    def failing(model, batch):
        return loss_fn(model, batch) * (math.nan if net.passes > passes + 2 else 1.0)

    with pytest.raises(TrainingDivergedError):
        train_indicators(net, quantizer_set(net), batches(1), failing, candidate_bits=CANDIDATES)
    assert net.passes == passes
    assert net.mean == mean
