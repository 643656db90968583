"""A training process that tells where it is, to be killed there; forked from a server that has imported all."""

import importlib
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

SCRIPT = "tests.integration.classification"

# Between two of the stages, on a machine that has other work too.
LONGEST_S = 120

# What a training goes through, by the functions that do it: module, name of the function or of class and method.
STAGES = {
    "importance training": ("llt_nncf.adapter.score_source", "train_at_initialization"),
    "importance checkpoint": ("llt_nncf.indicators.joint_training", "save_checkpoint"),
    "saving an artifact": ("llt_nncf.artifacts.layer_table", "LayerTable.save"),
    "saving the indicators": ("llt_nncf.artifacts.indicator_table", "IndicatorTable.save"),
    "search": ("llt_nncf.adapter.controller", "search_policies"),
    "saving the policy": ("llt_nncf.artifacts.bit_policy", "BitPolicy.save"),
    "batch norm adaptation": ("nncf.common.initialization.batchnorm_adaptation", "BatchnormAdaptationAlgorithm.run"),
    "fine-tuning": (SCRIPT, "train_epoch"),
    "checkpoint": (SCRIPT, "write_whole"),
    "export": ("llt_nncf.adapter.controller", "LltQuantizationController.export_model"),
}


@dataclass(frozen=True)
class Moment:
    """When to kill: in the ``call``-th call of what does ``stage``, counted from 0, after ``seconds`` of it."""

    stage: str
    call: int
    seconds: float


def start_server() -> Any:
    """Returns a context whose processes start in milliseconds, with torch and NNCF imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["llt_nncf.register", SCRIPT])
    return context


def train(context: Any, arguments: list[str], log: Path, *, by_policies: bool, kill: Moment | None = None) -> Any:
    """
    Runs the script in a process of its own.

    :param context: From ``start_server``.
    :param arguments: Of the script.
    :param log: Where its output is appended to.
    :param by_policies: Whether the script's own loop trains the indicators.
    :param kill: When to send SIGKILL; ``None`` for never.
    :return: The exit status, and the (stage, call, start, end) of everything that ended, in seconds.
    """
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(arguments, str(log), by_policies, theirs))
    process.start()
    theirs.close()
    began: dict[tuple[str, int], float] = {}
    stage, call = "nothing", 0
    course = []
    while True:
        try:
            if not ours.poll(LONGEST_S):
                process.kill()
                pytest.fail(f"nothing happened for {LONGEST_S} s after {stage!r}, call {call}; see {log}")
            stage, call, is_begin, moment = ours.recv()
        except (EOFError, OSError):
            break
        if is_begin:
            began[stage, call] = moment
            if kill is not None and (stage, call) == (kill.stage, kill.call):
                time.sleep(max(0.0, moment + kill.seconds - time.monotonic()))
                process.kill()
        else:
            course.append((stage, call, began[stage, call], moment))
    process.join()
    return process.exitcode, course


def _work(arguments: list[str], log: str, by_policies: bool, pipe: Connection) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(handle, stream)
    importlib.import_module("llt_nncf.register")
    torch.set_num_threads(1)
    script = importlib.import_module(SCRIPT)
    if by_policies:
        script.train_epoch = train_epoch_by_policies
    calls: dict[str, int] = {}

    def tell(stage: str, is_begin: bool) -> None:
        calls[stage] = calls.get(stage, 0) + is_begin
        pipe.send((stage, calls[stage] - 1, is_begin, time.monotonic()))

    for stage, (module, name) in STAGES.items():
        *owners, function = name.split(".")
        owner = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, function, _told(getattr(owner, function), stage, tell))
    tell("start", True)
    script.main(arguments)
    tell("start", False)


def train_epoch_by_policies(model: Any, ctrl: Any, loader: Any, optimizer: Any, epoch: int, print_freq: int) -> None:
    """In place of the script's own: what a script does for ``"where": "training"``."""
    model.train()
    criterion = nn.CrossEntropyLoss()
    for images, target in loader:
        ctrl.scheduler.step()
        optimizer.zero_grad()
        for _ in ctrl.policies():
            loss = criterion(model(images), target) + ctrl.loss()
            loss.backward()
        optimizer.step()


def _told(function: Callable[..., Any], stage: str, tell: Callable[[str, bool], None]) -> Callable[..., Any]:
    @wraps(function)
    def told(*args: Any, **kwargs: Any) -> Any:
        tell(stage, True)
        result = function(*args, **kwargs)
        tell(stage, False)
        return result

    return told
