"""A progress bar for importance training."""

from collections.abc import Iterable

from rich.console import Console
from rich.console import RenderableType
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import ProgressColumn
from rich.progress import Task
from rich.progress import TextColumn
from rich.progress import TimeRemainingColumn
from rich.text import Text

from llt_nncf.artifacts import StepRecord


class TrainingProgress(Progress):
    """
    Shows steps, rate, time left, and below them the loss of each bit-width and how stable the ranking is.

    A context manager; call it with each record. ::

        with TrainingProgress() as progress:
            train_indicators(model, quantizers, loader, loss_fn, candidate_bits=(4, 3, 2), on_step=[progress])

    :param console: Where to; by default standard output.
    """

    def __init__(self, console: Console | None = None):
        self._details, self._tau = Text(), ""
        super().__init__(
            TextColumn("Importance training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self._task = self.add_task("", total=None)

    def __call__(self, record: StepRecord) -> None:
        """Takes in one step."""
        done = self.tasks[0].completed
        if done == 0 and record.step > 1:
            # Steps of before a resume say nothing about the speed of now.
            self.reset(self._task, completed=record.step - 1, start=True)
        if record.tau is not None:
            self._tau = f"tau {record.tau:.3f}"
        losses = [f"{_short(name)} {loss:.3f}".lstrip() for name, loss in record.losses.items()]
        self._details = Text("  ".join(["loss", *losses, self._tau]))
        if record.skipped is not None:
            self.console.print(f"Left out: {record.skipped}")
        self.update(self._task, completed=record.step, total=record.total_steps)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield self._details


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g} steps/s")


def _short(name: str) -> str:
    """``uniform-6`` is ``6b``, ``sampled-0`` is ``sampled``, and those after it need no name."""
    kind, _, number = name.partition("-")
    if kind == "uniform":
        return f"{number}b"
    return kind if number == "0" else ""
