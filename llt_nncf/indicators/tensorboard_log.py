"""The course of an importance training in TensorBoard."""

from pathlib import Path
from typing import Any

from llt_nncf.artifacts import StepRecord
from llt_nncf.errors import MissingDependencyError


class TensorBoardLog:
    """
    Writes the scalars of every record that it is called with.

    ``loss/uniform-6``, ``tau/window``, ``tau/from_start``, ``weights/LAYER/6``, ``activations/GROUP/6`` and
    ``learning_rate``. A resumed training hides the steps that the killed one did beyond its checkpoint.

    :param folder: Of the event files.
    :raises MissingDependencyError: If ``tensorboard`` is not installed.
    """

    def __init__(self, folder: Path | str):
        try:
            # Only here: it is an extra, and importing it takes a second.
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            msg = f"TensorBoard's event files need a package: pip install tensorboard ({error})"
            raise MissingDependencyError(msg) from error
        self._make_writer = SummaryWriter
        self._folder = str(folder)
        self._writer: Any = None

    def __call__(self, record: StepRecord) -> None:
        """Writes one step."""
        if self._writer is None:
            self._writer = self._make_writer(self._folder, purge_step=record.step if record.step > 1 else None)
        scalars = {f"loss/{name}": loss for name, loss in record.losses.items()}
        scalars["learning_rate"] = record.learning_rate
        if record.tau is not None:
            scalars["tau/window"] = record.tau
        if record.tau_from_start is not None:
            scalars["tau/from_start"] = record.tau_from_start
        if record.indicators is not None:
            for kind, table in (("weights", record.indicators.weights), ("activations", record.indicators.activations)):
                for name, values in table.items():
                    scalars |= {f"{kind}/{name}/{bits}": value for bits, value in values.items()}
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, record.step)

    def close(self) -> None:
        """Writes out what is left."""
        if self._writer is not None:
            self._writer.close()
