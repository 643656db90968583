"""The table of a comparison of methods, ``results.csv``, as points of a picture."""

import csv
import math
from pathlib import Path
from statistics import fmean
from statistics import stdev

from llt_nncf.artifacts import reading
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import some_of
from llt_nncf.plots import AccuracyPoint

COLUMNS = ("method", "budget", "seed", "status", "top1", "float_top1", "gbitops", "weight_mib")
_DONE = "done"


def load_accuracy_points(path: Path | str, *, cost: str) -> tuple[list[AccuracyPoint], float]:
    """
    Loads the rows that are done, and takes mean and standard deviation over the seeds of each method and budget.

    :param path: The file, with at least ``COLUMNS``.
    :param cost: Name of the column that the points' cost is the mean of.
    :return: The points in the order of the file, and the top-1 of the float model, percent.
    :raises ArtifactError: If the file is missing or malformed, no row is done, or two are of the same cell.
    """
    seeds: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in _done_rows(path):
        numbers = {name: _number(path, row, name) for name in ("top1", "float_top1", cost)}
        if not numbers[cost] > 0:
            msg = f"{path}: {_cell(row)} has {cost}={numbers[cost]:g}, which must be positive."
            raise ArtifactError(msg)
        own = seeds.setdefault((row["method"], row["budget"]), {})
        if row["seed"] in own:
            msg = f"{path}: {_cell(row)} is there twice. Leave one of the rows."
            raise ArtifactError(msg)
        own[row["seed"]] = numbers
    points = []
    for (method, budget), by_seed in seeds.items():
        top1 = [numbers["top1"] for numbers in by_seed.values()]
        spread = stdev(top1) if len(top1) > 1 else 0.0
        points.append(AccuracyPoint(method, budget, fmean(n[cost] for n in by_seed.values()), fmean(top1), spread))
    return points, fmean(numbers["float_top1"] for by_seed in seeds.values() for numbers in by_seed.values())


def _done_rows(path: Path | str) -> list[dict[str, str]]:
    with reading(path, "a table of results"), Path(path).open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, restval="", strict=True)
        rows = list(table)
        names = table.fieldnames or []
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        msg = f"{path}: taken for the results.csv of a comparison, it lacks the columns {some_of(missing, 8)}."
        raise ArtifactError(msg)
    done = [row for row in rows if row["status"] == _DONE]
    if not done:
        msg = f"{path}: none of its {len(rows)} rows has the status {_DONE!r}: there is nothing to draw yet."
        raise ArtifactError(msg)
    return done


def _number(path: Path | str, row: dict[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        msg = f"{path}: {_cell(row)} is {_DONE}, so its {name} must be a number, and not {row[name]!r}."
        raise ArtifactError(msg)
    return value


def _cell(row: dict[str, str]) -> str:
    return f"method {row['method']!r}, budget {row['budget']!r}, seed {row['seed']}"
