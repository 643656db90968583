"""The log of an importance training: appended, gone on with after a kill, and read back as curves."""

import json
import math
from pathlib import Path

import pytest

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import StepRecord
from llt_nncf.artifacts import TrainingCurves
from llt_nncf.artifacts import TrainingLog
from llt_nncf.errors import ArtifactError


def record(step: int, *, loss: float = 1.0, weight: float | None = None, skipped: str | None = None) -> StepRecord:
    table = LayerTable((Layer("conv", 10, 10, "input", (4, 2), (4, 2)),))
    values = {4: weight or 0.0, 2: 1.0}
    indicators = None if weight is None else IndicatorTable(table, {"conv": values}, {"input": values})
    losses = {"uniform-4": loss, "sampled-0": 2 * loss}
    return StepRecord(step, 10, 0, 0.01, losses, indicators, tau=None, tau_from_start=0.5, skipped=skipped)


def test_steps_come_back_as_curves(tmp_path: Path):
    path = tmp_path / "new" / "importance.jsonl"
    log = TrainingLog(path)
    for step in (1, 2, 3):
        log(record(step, loss=0.5 * step, weight=0.1 * step if step != 2 else None))
    curves = TrainingCurves.load(path)
    assert curves.losses == {"uniform-4": {1: 0.5, 2: 1.0, 3: 1.5}, "sampled-0": {1: 1.0, 2: 2.0, 3: 3.0}}
    assert curves.weights[("conv", 4)] == {1: 0.1, 3: pytest.approx(0.3)}
    assert set(curves.activations) == {("input", 4), ("input", 2)}
    assert (curves.tau, curves.tau_from_start) == ({}, {1: 0.5, 3: 0.5})


def test_a_step_that_was_left_out_is_strict_json_with_its_reason(tmp_path: Path):
    TrainingLog(tmp_path / "log")(record(1, loss=math.nan, skipped="the loss is nan"))
    _, line = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["losses"] == {"uniform-4": None, "sampled-0": None}
    assert TrainingCurves.load(tmp_path / "log").skipped == {1: "the loss is nan"}


def test_a_resumed_training_goes_on_in_the_file_and_replaces_what_it_does_again(tmp_path: Path):
    path = tmp_path / "log"
    killed = TrainingLog(path)
    for step in (1, 2, 3, 4):
        killed(record(step))
    with path.open("a") as file:
        file.write('{"step": 5, "los')  # amid a line
    assert max(TrainingCurves.load(path).losses["uniform-4"]) == 4
    resumed = TrainingLog(path)
    for step in (3, 4):
        resumed(record(step, loss=7.0))
    assert TrainingCurves.load(path).losses["uniform-4"] == {1: 1.0, 2: 1.0, 3: 7.0, 4: 7.0}


def test_a_training_from_the_start_begins_a_new_file(tmp_path: Path):
    (tmp_path / "log").write_text("of something else")
    TrainingLog(tmp_path / "log")(record(1))
    assert TrainingCurves.load(tmp_path / "log").losses["uniform-4"] == {1: 1.0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json\n",
        '{"schema": "llt_nncf.training_log/0"}\n',
        "[]\n",
        '{"schema": "llt_nncf.training_log/1"}\n{"losses": {}}\n',
        '{"schema": "llt_nncf.training_log/1"}\n{"step": "1", "losses": {}}\n',
        '{"schema": "llt_nncf.training_log/1"}\n{"step": 1, "losses": []}\n',
        '{"schema": "llt_nncf.training_log/1"}\n{"step": 1, "losses": {}, "weights": {"conv": {"four": 1.0}}}\n',
        '{"schema": "llt_nncf.training_log/1"}\n{"st\n{"step": 1, "losses": {}}\n',
    ],
)
def test_a_malformed_log_is_refused_by_name(tmp_path: Path, text: str):
    (tmp_path / "log").write_text(text)
    with pytest.raises(ArtifactError, match="log: "):
        TrainingCurves.load(tmp_path / "log")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"st', "Unterminated string starting at (column 2)"),
        ("", "Expecting value (column 1)"),
        ('{"losses": {}}', "KeyError('step')"),
        ('{"step": 2, "losses": []}', "TypeError('[] is not of type dict')"),
    ],
)
def test_a_broken_line_is_named_by_its_number_with_what_can_be_done(tmp_path: Path, line: str, fault: str):
    path, good = tmp_path / "log", '{"step": 1, "losses": {}}'
    path.write_text("\n".join(['{"schema": "llt_nncf.training_log/1"}', good, line, good, ""]))
    with pytest.raises(ArtifactError, match="log: line 3 is no step of a training log: ") as caught:
        TrainingCurves.load(path)
    assert f": {fault}. Take that line out, or delete the file" in str(caught.value)


def test_a_missing_log_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such file"):
        TrainingCurves.load(tmp_path / "log")
