"""Doing everything that is left of a comparison, on several processes."""

import os
import time
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import Executor
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tasks
from cell_files import CellFiles
from rich.console import Console
from setting import Setting

Key = tuple[str, str, int]


def run(setting: Setting, keys: Sequence[Key], *, workers: int, console: Console) -> dict[Key, str]:
    """
    Trains indicators, then chooses bits and trains with them, a seed after the other; what is finished is kept.

    :param setting: What is compared, where.
    :param keys: (method, budget, seed) of the cells.
    :param workers: Number of processes; each gets its share of the cores.
    :param console: For a line after each piece of work.
    :return: Cells whose work ended with an error, and the error; the next run does them again.
    """
    files = CellFiles(setting.out)
    failed: dict[Key, str] = {}
    threads = max(1, (os.cpu_count() or 1) // workers)
    # Not forked: threads of OpenMP do not survive that.
    with ProcessPoolExecutor(workers, get_context("spawn"), tasks.prepare, (setting, threads)) as pool:
        # Once, before the cells that share them, and of all seeds together: no worker waits for the last of each seed.
        errors = _do(pool, tasks.train_indicators, _indicators(setting, keys), console)
        failed |= {key: errors[pair] for key in keys if (pair := _indicators_of(setting, key)) in errors}
        keys = [key for key in keys if key not in failed]
        for seed in dict.fromkeys(seed for _, _, seed in keys):
            own = [key for key in keys if key[2] == seed]
            failed |= _do(pool, tasks.choose, _choices(files, own), console)
            untrained = _trainings(files, [key for key in own if key not in failed])
            errors = _do(pool, tasks.train, [same[0] for same in untrained], console)
            failed |= {key: errors[same[0]] for same in untrained for key in same if same[0] in errors}
    return failed


def _indicators(setting: Setting, keys: Sequence[Key]) -> list[tuple[str, int]]:
    """(Name, seed) of all indicators that the cells need."""
    return sorted({(name, seed) for name, seed in (_indicators_of(setting, key) for key in keys) if name})


def _indicators_of(setting: Setting, key: Key) -> tuple[str, int]:
    method, _, seed = key
    return setting.plan.methods[method].indicators, seed


def _choices(files: CellFiles, keys: Sequence[Key]) -> list[Key]:
    """The cells that have no answer yet, or one that another run may change."""
    return [key for key in keys if (choice := files.load_choice(*key)) is None or not choice.is_final]


def _trainings(files: CellFiles, keys: Sequence[Key]) -> list[list[Key]]:
    """The cells that are not trained yet, those with the same bits together."""
    same: dict[Path, list[Key]] = {}
    for key in keys:
        if files.load(*key) is None:
            same.setdefault(files.training_path(files.load_choice(*key)), []).append(key)
    return list(same.values())


def _do(pool: Executor, task: Callable[..., str], items: Sequence[Any], console: Console) -> dict[Any, str]:
    """Calls ``task`` with each item, and returns the errors of those that failed."""
    errors: dict[Any, str] = {}
    start = time.perf_counter()
    futures = {}
    for item in items:
        try:
            futures[pool.submit(task, *item)] = item
        except BrokenProcessPool as error:  # a worker was killed, for want of memory or by a fault in native code
            errors[item] = str(error)
    for done, future in enumerate(as_completed(futures), 1):
        item, error = futures[future], future.exception()
        if error is not None:
            errors[item] = f"{type(error).__name__}: {error}"
        left = (time.perf_counter() - start) / done * (len(items) - done)
        name = f"{task.__name__.replace('_', ' ')} {' '.join(map(str, item))}"
        said = errors[item] if error else future.result()
        line = f"{done}/{len(items)} {name}: {said}"
        console.print(line + f" [about {left / 60:.0f} min left]" * (left > 0), markup=False, highlight=False)
    return errors
