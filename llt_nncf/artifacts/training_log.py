"""The course of an importance training as a file: one line of JSON for each optimizer step."""

import json
import math
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from llt_nncf.artifacts.file_reading import reading
from llt_nncf.artifacts.json_file import typed
from llt_nncf.artifacts.json_file import write_atomically
from llt_nncf.artifacts.step_record import StepRecord
from llt_nncf.errors import ArtifactError

TRAINING_LOG_SCHEMA = "llt_nncf.training_log/1"
_DELETE = "delete the file, and a training that goes on there begins a new one"


class TrainingLog:
    """
    Appends a line for every record that it is called with, so that the file can be watched while the training runs.

    A resumed training goes on in the file of the killed one: steps that it does again replace their first lines, and so
    does a training from the start. The first line names the schema.

    :param path: The ``.jsonl`` file; missing folders are made with the first record.
    """

    def __init__(self, path: Path | str):
        self._path = Path(path)
        self._began = False

    def __call__(self, record: StepRecord) -> None:
        """Appends one step."""
        if not self._began:
            lines = [json.dumps({"schema": TRAINING_LOG_SCHEMA}), *self._lines_before(record.step)]
            write_atomically(self._path, lambda temporary: temporary.write_text("\n".join(lines) + "\n", "utf-8"))
            self._began = True
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_to_dict(record), allow_nan=False) + "\n")

    def _lines_before(self, step: int) -> list[str]:
        if step == 1 or not self._path.exists():
            return []
        return [json.dumps(row) for row in _load_rows(self._path).values() if row["step"] < step]


@dataclass(frozen=True)
class TrainingCurves:
    """
    What a training log holds, as curves: step to value.

    :param losses: Name of the pass (``uniform-6``, ..., ``sampled-0``) to its losses.
    :param tau: Kendall's tau of the layers' ranking against that of a window ago.
    :param tau_from_start: The same against the ranking by the start values.
    :param weights: (Layer, bit-width) to its indicators.
    :param activations: (Activation group, bit-width) to its indicators.
    :param skipped: Step to the reason why its update was left out.
    """

    losses: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    tau: Mapping[int, float] = field(default_factory=dict)
    tau_from_start: Mapping[int, float] = field(default_factory=dict)
    weights: Mapping[tuple[str, int], Mapping[int, float]] = field(default_factory=dict)
    activations: Mapping[tuple[str, int], Mapping[int, float]] = field(default_factory=dict)
    skipped: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> "TrainingCurves":
        """
        Loads the file of a ``TrainingLog``; a last line that was cut off is left out.

        :raises ArtifactError: If the file is missing or malformed.
        """
        curves: dict[str, dict[Any, Any]] = {name: {} for name in cls.__dataclass_fields__}
        for number, row in _load_rows(Path(path)).items():
            with _parsing_line(path, number):
                step = row["step"]
                for name, loss in typed(row["losses"], dict).items():
                    if loss is not None:  # it was not finite
                        curves["losses"].setdefault(name, {})[step] = typed(loss, float)
                for key, kind in (("tau", float), ("tau_from_start", float), ("skipped", str)):
                    if row.get(key) is not None:
                        curves[key][step] = typed(row[key], kind)
                for key in ("weights", "activations"):
                    for name, values in typed(row.get(key, {}), dict).items():
                        for bits, value in typed(values, dict).items():
                            curves[key].setdefault((name, int(bits)), {})[step] = typed(value, float)
        return cls(**curves)


def _to_dict(record: StepRecord) -> dict[str, Any]:
    row: dict[str, Any] = {
        "step": record.step,
        "epoch": record.epoch,
        "learning_rate": record.learning_rate,
        "losses": {name: loss if math.isfinite(loss) else None for name, loss in record.losses.items()},
    }
    if record.indicators is not None:
        row |= {"tau": record.tau, "tau_from_start": record.tau_from_start, **record.indicators.values_to_dict()}
    if record.skipped is not None:
        row["skipped"] = record.skipped
    return row


def _load_rows(path: Path) -> dict[int, dict[str, Any]]:
    """The number of its line to the row of every step; without a last line that a kill has cut off."""
    with reading(path, f"a training log (name another, or {_DELETE})"):
        first, *lines = path.read_text(encoding="utf-8").split("\n")
        schema = json.loads(first)["schema"]
    if schema != TRAINING_LOG_SCHEMA:
        msg = f"{path}: the schema is {schema!r}, and must be {TRAINING_LOG_SCHEMA!r}: name another file, or {_DELETE}."
        raise ArtifactError(msg)
    rows = {}
    for number, line in enumerate(lines[:-1], 2):  # what follows the last line break is empty, or not whole
        with _parsing_line(path, number):
            rows[number] = json.loads(line)
            typed(rows[number]["step"], int)
    return rows


@contextmanager
def _parsing_line(path: Path | str, number: int) -> Iterator[None]:
    """Words what goes wrong while the line of a step is taken apart."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        # The parser's own text calls every line the first.
        fault = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else repr(error)
        msg = f"{path}: line {number} is no step of a training log: {fault}. Take that line out, or {_DELETE}."
        raise ArtifactError(msg) from error
