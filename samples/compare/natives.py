"""Methods that train quantizers of their own: the bits are theirs, and so is the model that is measured."""

import dataclasses
import time

from choices import SearchCost
from choices import with_policy
from finetuning import batches_and_loss
from finetuning import passes
from finetuning import train
from plan import TargetBudget
from results import Cell
from rivals import diffq_search
from rivals import nncf_int8
from rivals.choice import is_within
from rivals.choice import limits_by_kind
from setting import Setting

from llt_nncf.cost.layer_cost import MIB_BITS
from llt_nncf.errors import InfeasibleBudgetError


def train_natively(setting: Setting, name: str, cell: Cell) -> Cell:
    """
    Returns the whole cell of a method that is not fine-tuned in our quantizers.

    :param name: ``nncf_int8`` or ``diffq``.
    :param cell: Method, budget and seed.
    :raises InfeasibleBudgetError: If its rules cannot meet the budget.
    :raises MissingDependencyError: If it is not installed.
    """
    natives = {"nncf_int8": _nncf_int8, "diffq": _diffq}
    return natives[name](setting, cell, setting.plan.budgets[cell.budget])


def _nncf_int8(setting: Setting, cell: Cell, budget: TargetBudget) -> Cell:
    """NNCF's own 8-bit quantizers, fine-tuned by the loop of all methods."""
    policy = nncf_int8.int8_policy(setting.layers_of_any_bits)
    if budget.limits and not is_within(policy, setting.layers_of_any_bits, budget.budget):
        msg = f"NNCF's int8 has 8 bits everywhere, which does not meet the budget {budget.label!r}."
        raise InfeasibleBudgetError(msg)
    model, ctrl = nncf_int8.int8_model(setting.float_model(), setting.loader(cell.seed))
    start_top1 = setting.top1(model)
    trained, losses = train(setting, model, cell.seed, ctrl)
    chosen = with_policy(setting, cell, policy, SearchCost())
    figures = {**chosen.figures, "start_top1": start_top1, **trained}
    return dataclasses.replace(chosen, figures=figures, losses=losses)


def _diffq(setting: Setting, cell: Cell, budget: TargetBudget) -> Cell:
    """DiffQ's own training, as long as that of all methods; it searches and trains at once."""
    table, plan = budget.table(setting.layers), setting.plan.finetuning
    wanted = limits_by_kind("DiffQ", table, budget.budget)
    if not budget.weight_only or set(wanted) != {"weight_bits"}:
        msg = "DiffQ quantizes weights only, to a size: its activations are floats, so that it has no BitOPs."
        raise InfeasibleBudgetError(msg)
    loader, criterion = batches_and_loss(setting, cell.seed)
    start = time.process_time()
    trained = diffq_search.train(
        setting.float_model(),
        table,
        wanted["weight_bits"] / MIB_BITS,
        loader,
        criterion,
        seed=cell.seed,
        epochs=plan.epochs,
        lr=plan.learning_rate,
    )
    figures = {
        "weight_mib": trained.weight_mib,
        "search_seconds": 0.0,
        "search_passes": 0.0,
        "finetune_seconds": time.process_time() - start,
        "finetune_passes": passes(plan, trained.passes),
        "top1": setting.top1(trained.model),
    }
    reason = "Weights alone, in groups of 8 with bits of their own; activations are floats."
    return dataclasses.replace(cell, figures=figures, reason=reason)
