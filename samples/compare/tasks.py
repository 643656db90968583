"""The two kinds of work of a comparison, each done in a process of its own: to choose bits, and to train with them."""

import dataclasses
import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
import warnings
from functools import lru_cache

import choices
import nncf
import torch
from cell_files import CellFiles
from finetuning import fine_tune_policy
from natives import train_natively
from results import Cell
from rivals import diffq_search
from rivals import hawq_search
from rivals import mct_search
from setting import Setting
from torch import nn

from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import MissingDependencyError

# NNCF says at each call that create_compressed_model is deprecated; NNCF 3 has nothing in its place.
warnings.filterwarnings("ignore", "The 'nncf.torch", FutureWarning)


_RIVALS = {"diffq": diffq_search, "mct": mct_search}

_process: dict[str, Setting] = {}


def prepare(setting: Setting, num_threads: int) -> None:
    """Sets up a process: the setting stays in it, with its data, and it ends when the one that started it is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    nncf.set_log_level(logging.WARNING)
    torch.set_num_threads(num_threads)
    _process["setting"] = setting


def _end_with_parent() -> None:
    # Else a comparison that was killed would leave workers that train on, beside those of the next run.
    parent = multiprocessing.parent_process()
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def train_indicators(name: str, seed: int) -> str:
    """Trains the indicators ``name`` of the plan."""
    cost = choices.train_indicators(_process["setting"], name, seed)
    return f"{cost.passes} passes, {cost.seconds:.0f} s"


def choose(method: str, budget: str, seed: int) -> str:
    """Chooses the bits of a cell and saves them; where its method cannot, that is saved with its reason."""
    setting = _process["setting"]
    cell = Cell(method, budget, seed, "done")
    try:
        cell = _chosen(setting, cell)
    except InfeasibleBudgetError as error:
        cell = dataclasses.replace(cell, status="infeasible", reason=str(error))
    except MissingDependencyError as error:
        cell = dataclasses.replace(cell, status="missing", reason=str(error))
    except Exception as error:  # noqa: BLE001  of whatever a rival is made; the other cells may do
        cell = dataclasses.replace(cell, status="failed", reason=f"{type(error).__name__}: {error}")
    CellFiles(setting.out).save_choice(cell)
    return cell.status


def train(method: str, budget: str, seed: int) -> str:
    """Trains the model at the bits of a cell, and saves what comes out."""
    setting = _process["setting"]
    files = CellFiles(setting.out)
    cell = files.load_choice(method, budget, seed)
    figures, losses = fine_tune_policy(setting, files.policy_path(cell), seed)
    files.save_training(cell, figures, losses)
    return f"top-1 {figures['top1']:.2f} %, {figures['finetune_seconds']:.0f} s"


def _chosen(setting: Setting, cell: Cell) -> Cell:
    """The cell with the bits that its method chooses, and the figures that are known by then."""
    method, budget = setting.plan.methods[cell.method], setting.plan.budgets[cell.budget]
    if method.kind == "native":
        return train_natively(setting, method.rival, cell)
    if method.kind == "rival":
        return _chosen_by_rival(setting, method.rival, cell)
    if method.kind == "uniform":
        policy, cost = choices.choose_uniform(setting.layers_of_any_bits, budget), choices.SearchCost()
    else:
        policy, cost = choices.choose_by_indicators(setting, method, budget, cell.seed)
    return choices.with_policy(setting, cell, policy, cost)


def _chosen_by_rival(setting: Setting, name: str, cell: Cell) -> Cell:
    budget = setting.plan.budgets[cell.budget]
    table = budget.table(setting.layers)
    if name == "hawq":
        answers, cost = _hawq_answers(budget.weight_only, cell.seed)
        policy, notes = hawq_search.best_answer(answers, table, budget.budget)
    else:
        start = time.process_time()
        choice = _RIVALS[name].choose(
            setting.float_model(),
            table,
            budget.budget,
            setting.loader(cell.seed),
            nn.CrossEntropyLoss(),
            seed=cell.seed,
        )
        policy, notes = choice.policy, choice.notes
        cost = choices.SearchCost(time.process_time() - start, choice.passes)
    return dataclasses.replace(choices.with_policy(setting, cell, policy, cost), reason=" ".join(notes))


@lru_cache
def _hawq_answers(weight_only: bool, seed: int) -> tuple[list[hawq_search.Answer], choices.SearchCost]:
    """Answers of HAWQ for all budgets: a process measures the Hessian once, and its cost stands at each of them."""
    setting, start = _process["setting"], time.process_time()
    table = next(b.table(setting.layers) for b in setting.plan.budgets.values() if b.weight_only == weight_only)
    answers, passes = hawq_search.answers(
        setting.float_model(), table, setting.loader(seed), nn.CrossEntropyLoss(), seed=seed
    )
    return answers, choices.SearchCost(time.process_time() - start, passes)
