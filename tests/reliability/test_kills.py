"""kill -9 at random moments of every stage; a second start ends where an uninterrupted run ends, bit for bit."""

import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reliability.training_process import STAGES
from tests.reliability.training_process import Moment
from tests.reliability.training_process import start_server
from tests.reliability.training_process import train

CONFIG = {
    "input_info": {"sample_size": [1, 1, 8, 8]},
    "compression": {
        "algorithm": "llt_quantization",
        "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
        "initializer": {
            "range": {"num_init_samples": 60},
            "batchnorm_adaptation": {"num_bn_adaptation_samples": 120},
        },
    },
}
IMPORTANCE = {
    "init": {"where": "init", "max_steps": 12, "checkpoint_every": 2, "log_every": 3, "indicator_ema": 0.5},
    "training": {"where": "training"},
}
# What the whole of a run leaves, but for TensorBoard's files, which have the time in them.
FILES = {"layers.json", "indicators.json", "policy.json", "last.pth", "metrics.json", "model.onnx"}
FILES_OF_INIT = {"importance.jsonl", "training.png"}


@pytest.fixture(scope="module")
def server():
    return start_server()


class Runs:
    """Runs of one script with one config, each in a folder of its own."""

    def __init__(self, server: Any, folder: Path, where: str):
        self.server, self.folder, self.where = server, folder, where
        self.config = folder / "config.json"
        section = {**CONFIG["compression"], "importance": IMPORTANCE[where]}
        self.config.write_text(json.dumps({**CONFIG, "compression": section}))

    def start(self, name: str, kill: Moment | None = None) -> tuple[int, list[Any]]:
        """As a user would: with ``--resume`` if there is a checkpoint."""
        folder = self.folder / name
        arguments = ["--config", str(self.config), "--log-dir", str(folder), "--epochs", "3"]
        arguments += ["--mode", "train", "test", "export", "--export-model-path", str(folder / "model.onnx")]
        arguments += ["--metrics-dump", str(folder / "metrics.json")]
        if (folder / "last.pth").exists():
            arguments += ["--resume", str(folder / "last.pth")]
        log = self.folder / f"{name}.log"
        return train(self.server, arguments, log, by_policies=self.where == "training", kill=kill)


def comparable(value: Any) -> Any:
    """What ``torch.load`` gave, with tensors as bytes, and NNCF's list of names that it makes of a set sorted."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        names = "directly_quantized_operator_node_names"
        return {key: sorted(inner) if key == names else comparable(inner) for key, inner in value.items()}
    return [comparable(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def differing(one: Path, other: Path) -> list[str]:
    """Names of files that are not the same in the two folders, or in one only."""
    files = [{path.name: path for path in folder.iterdir() if path.name != "tensorboard"} for folder in (one, other)]
    found = sorted(set(files[0]) ^ set(files[1]))
    for name in sorted(set(files[0]) & set(files[1])):
        first, second = (of[name] for of in files)
        if name == "last.pth":
            same = comparable(torch.load(first)) == comparable(torch.load(second))
        else:
            same = first.read_bytes() == second.read_bytes()
        found += [] if same else [name]
    return found


def moments(course: list[Any], count: int, seed: int) -> list[Moment]:
    """Random moments in each of the stages in turn, and in between."""
    rng = random.Random(seed)
    lengths: dict[str, list[tuple[int, float]]] = {}
    for stage, call, start, end in course:
        lengths.setdefault(stage, []).append((call, end - start))
    first = min(start for stage, _, start, _ in course if stage != "start")
    ((_, _, began, ended),) = [row for row in course if row[0] == "start"]
    lengths["start-up"] = [(0, first - began)]
    lengths["anywhere"] = [(0, ended - began)]
    del lengths["start"]
    found = []
    for index in range(count):
        stage = sorted(lengths)[index % len(lengths)]
        call, length = rng.choice(lengths[stage])
        found.append(Moment("start" if stage in ("start-up", "anywhere") else stage, call, rng.random() * length))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("where", "count"), [("init", 34), ("training", 16)])
def test_a_killed_run_that_is_started_again_ends_as_the_uninterrupted_one(server, tmp_path, where, count):
    runs = Runs(server, tmp_path, where)
    status, course = runs.start("whole")
    log = (tmp_path / "whole.log").read_text()
    assert status == 0, log
    ended = {path.name for path in (tmp_path / "whole").iterdir()} - {"tensorboard"}
    assert ended == FILES | (FILES_OF_INIT if where == "init" else set())
    of_training = {"importance training", "importance checkpoint"} if where == "training" else set()
    assert {stage for stage, *_ in course} == {"start", *STAGES} - of_training
    rng = random.Random(where)
    for number, moment in enumerate(moments(course, count, seed=0)):
        name = f"killed-{number}"
        status, _ = runs.start(name, kill=moment)
        while status == 0:  # it was faster than the uninterrupted run
            shutil.rmtree(tmp_path / name)
            moment = Moment(moment.stage, moment.call, moment.seconds / 2)
            status, _ = runs.start(name, kill=moment)
        assert status == -signal.SIGKILL, (tmp_path / f"{name}.log").read_text()
        if number % 4 == 3:
            runs.start(name, kill=rng.choice(moments(course, count, seed=1)))
        status, _ = runs.start(name)
        assert status == 0, (moment, (tmp_path / f"{name}.log").read_text())
        assert differing(tmp_path / "whole", tmp_path / name) == [], moment
