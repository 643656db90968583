"""What a person sees of importance training: the bar in a terminal, the curves in TensorBoard."""

import io
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from llt_nncf.artifacts import StepRecord
from llt_nncf.errors import MissingDependencyError
from llt_nncf.indicators import TensorBoardLog
from llt_nncf.indicators import TrainingProgress
from llt_nncf.indicators import train_indicators
from tests.indicators.tiny_net import CANDIDATES
from tests.indicators.tiny_net import batches
from tests.indicators.tiny_net import loss_fn
from tests.indicators.tiny_net import quantizer_set
from tests.indicators.tiny_net import started_net

LOSSES = {f"uniform-{bits}": 1.0 + 1 / bits for bits in (6, 5, 4, 3, 2)} | {"sampled-0": 1.25}
RECORD = StepRecord(120, 600, 0, 0.01, LOSSES, tau=0.987)


def lines_of(*records: StepRecord, width: int = 80) -> list[str]:
    progress = TrainingProgress(Console(file=io.StringIO(), width=width))
    for record in records:
        progress(record)
    shown = Console(file=io.StringIO(), width=width)
    shown.print(*progress.get_renderables())
    return shown.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 160])
def test_the_bar_and_all_losses_fit_into_two_lines(width: int):
    bar, details = lines_of(RECORD, width=width)
    assert "Importance training" in bar
    assert "120/600" in bar
    assert details.rstrip() == "loss  6b 1.167  5b 1.200  4b 1.250  3b 1.333  2b 1.500  sampled 1.250  tau 0.987"


def test_tau_stays_until_it_is_known_anew():
    _, details = lines_of(RECORD, replace(RECORD, tau=None, losses={"sampled-0": 1.0, "sampled-1": 2.0}))
    assert details.rstrip() == "loss  sampled 1.000  2.000  tau 0.987"


def test_a_loader_without_length_has_no_total():
    bar, details = lines_of(replace(RECORD, total_steps=None, tau=None, losses={"uniform-2": 0.00123}))
    assert "120/?" in bar
    assert details.rstrip() == "loss  2b 0.001"


def test_a_step_that_was_left_out_is_told():
    console = Console(file=io.StringIO(), width=80)
    with TrainingProgress(console) as progress:
        progress(replace(RECORD, skipped="at step 120: the loss is nan"))
    assert "Left out: at step 120: the loss is nan" in console.file.getvalue()


def test_tensorboard_has_every_scalar_of_the_training(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    net, board = started_net(), TensorBoardLog(tmp_path)
    options = {"candidate_bits": CANDIDATES, "log_every": 2, "tau_window": 2}
    result = train_indicators(net, quantizer_set(net), batches(6), loss_fn, on_step=[board], **options)
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {f"loss/{name}" for name in result.losses} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("tau/from_start")] == [2, 4, 6]
    assert [event.step for event in events.Scalars("tau/window")] == [4, 6]
    last = events.Scalars("weights/conv/4")[-1]
    assert (last.step, last.value) == (6, pytest.approx(result.indicators.weights["conv"][4], rel=1e-6))


def test_a_resumed_training_hides_what_the_killed_one_did_beyond_its_checkpoint(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first in (1, 3):
        board = TensorBoardLog(tmp_path)
        for step in range(first, 6):
            board(replace(RECORD, step=step))
        board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("tau/window")] == [1, 2, 3, 4, 5]


def test_without_tensorboard_its_log_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match="pip install tensorboard"):
        TensorBoardLog(tmp_path)
