"""Doing everything that is left of a comparison, on several processes."""

import os
import time
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import Executor
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import as_completed
from multiprocessing import get_context
from typing import Any

import tasks
from cell_files import CellFiles
from results import Cell
from rich.console import Console
from setting import Setting

Key = tuple[str, str, int]


def run(setting: Setting, keys: Sequence[Key], *, workers: int, console: Console) -> list[Cell]:
    """
    Chooses the bits of all cells and trains with them, a seed after the other; what is finished is kept.

    :param setting: What is compared, where.
    :param keys: (method, budget, seed) of the cells.
    :param workers: Number of processes; each gets its share of the cores.
    :param console: For a line after each piece of work.
    :return: All cells; those whose work ended with an error are ``failed``, and are done again by the next run.
    """
    files = CellFiles(setting.out)
    failed: dict[Key, Cell] = {}
    threads = max(1, (os.cpu_count() or 1) // workers)
    # Not forked: threads of OpenMP do not survive that.
    with ProcessPoolExecutor(workers, get_context("spawn"), tasks.prepare, (setting, threads)) as pool:
        for seed in dict.fromkeys(seed for _, _, seed in keys):
            own = [key for key in keys if key[2] == seed]
            names = {setting.plan.methods[method].indicators for method, _, _ in own} - {""}
            # Each of them once, before the cells that share it.
            _do(pool, tasks.train_indicators, sorted((name, seed) for name in names), console)
            missing = [key for key in own if files.load_choice(*key) is None]
            failed |= _failed(_do(pool, tasks.choose, missing, console))
            untrained = {}
            for key in own:
                if files.load(*key) is None and key not in failed:
                    untrained.setdefault(files.training_path(files.load_choice(*key)), []).append(key)
            errors = _do(pool, tasks.train, [same[0] for same in untrained.values()], console)
            failed |= _failed({key: errors[same[0]] for same in untrained.values() for key in same if same[0] in errors})
    return [failed.get(key) or files.load(*key) for key in keys]


def _do(
    pool: Executor, task: Callable[..., object], items: Sequence[Any], console: Console
) -> dict[Any, Exception]:
    """Calls ``task`` with each item, and returns the errors of those that failed."""
    errors: dict[Any, Exception] = {}
    start = time.perf_counter()
    futures = {pool.submit(task, *item): item for item in items}
    for done, future in enumerate(as_completed(futures), 1):
        item, error = futures[future], future.exception()
        if error is not None:
            errors[item] = error
        left = (time.perf_counter() - start) / done * (len(items) - done)
        name = f"{task.__name__.replace('_', ' ')} {', '.join(map(str, item))}"
        said = f"{type(error).__name__}: {error}" if error else str(future.result())
        console.print(f"{done}/{len(items)} {name}: {said} [about {left / 60:.0f} min left]", markup=False, highlight=False)
    return errors


def _failed(errors: dict[Key, Exception]) -> dict[Key, Cell]:
    return {key: Cell(*key, "failed", f"{type(error).__name__}: {error}") for key, error in errors.items()}
