"""How each method chooses bits, and what the choice costs."""

import dataclasses
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plan import Method
from plan import TargetBudget
from results import Cell
from rivals.choice import is_within
from setting import Setting

from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.artifacts import TrainingCurves
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import save_json
from llt_nncf.cost import PolicyCost
from llt_nncf.errors import InfeasibleBudgetError

_COST_SCHEMA = "llt_nncf.comparison_cost/1"
UNIFORM_BITS = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class SearchCost:
    """
    What a choice has cost.

    :param seconds: Of one core.
    :param passes: Of one batch forward and backward; one forward pass counts as a third.
    """

    seconds: float = 0.0
    passes: float = 0.0


def train_indicators(setting: Setting, name: str, seed: int) -> SearchCost:
    """Trains the indicators ``name`` of the plan, unless they are there, and returns what that costs."""
    folder = indicator_folder(setting, name, seed)
    cost_path = folder / "cost.json"
    if not cost_path.exists():
        start = time.process_time()
        setting.write_indicators({**setting.plan.indicators[name], "seed": seed}, folder, seed)
        log = folder / "importance.jsonl"
        passes = sum(map(len, TrainingCurves.load(log).losses.values())) if log.exists() else 0
        save_json(cost_path, _COST_SCHEMA, {"seconds": time.process_time() - start, "passes": passes})
    return SearchCost(**load_json(cost_path, _COST_SCHEMA))


def choose_by_indicators(
    setting: Setting, method: Method, budget: TargetBudget, seed: int
) -> tuple[BitPolicy, SearchCost]:
    """
    Searches with the indicators of ``method``, which are trained if they are not there yet.

    One training serves all budgets; its cost stands at each of them.

    :raises InfeasibleBudgetError: If no policy meets the budget.
    """
    cost = train_indicators(setting, method.indicators, seed)
    start = time.process_time()
    scores = load_indicators(setting, method.indicators, seed)
    if method.order != "as_trained":
        scores = rearrange(scores, method.order, seed)
    scores = dataclasses.replace(scores, table=budget.table(scores.table))
    found = allocate_bits(scores, budget.budget, alpha=method.alpha, power=method.power)
    return found.policy, SearchCost(cost.seconds + time.process_time() - start, cost.passes)


def load_indicators(setting: Setting, name: str, seed: int) -> IndicatorTable | PairScoreTable:
    """Returns indicators that were trained before."""
    folder = indicator_folder(setting, name, seed)
    path = folder / "indicators.json"
    return load_scored_layers(path if path.exists() else folder / "scores.json")


def rearrange(indicators: IndicatorTable, order: str, seed: int) -> IndicatorTable:
    """
    Gives the indicators of each layer to another one; weights and activations by themselves.

    :param indicators: Only those of layers and quantizers that are searched change places.
    :param order: ``shuffled``, or ``reversed``: the layer with the largest indicator at its lowest bit-width gets those
        of the layer with the smallest, and so on.
    :param seed: Of the shuffling.
    """
    generator = random.Random(seed)

    def moved(rows: Mapping[str, Mapping[int, float]]) -> dict[str, Mapping[int, float]]:
        names = [name for name, values in rows.items() if len(values) > 1]
        ranked = sorted(names, key=lambda name: rows[name][min(rows[name])])
        if order == "reversed":
            sources = dict(zip(ranked, reversed(ranked), strict=True))
        else:
            sources = dict(zip(names, generator.sample(names, len(names)), strict=True))
        return {name: rows[sources.get(name, name)] for name in rows}

    return IndicatorTable(
        indicators.table, moved(indicators.weights), moved(indicators.activations), f"{indicators.source}, {order}"
    )


def choose_uniform(layers: LayerTable, budget: TargetBudget) -> BitPolicy:
    """
    Returns the uniform policy of the budget, or the dearest that meets it.

    Of those with the same BitOPs it is the one whose weights and activations have the least different bits, and of two
    such the one with more for the activations.

    :param layers: With all bit-widths as candidates.
    :raises InfeasibleBudgetError: If none meets it.
    """
    if budget.uniform_bits is not None:
        weight_bits, activation_bits = budget.uniform_bits
        return BitPolicy.uniform(layers, weight_bits=weight_bits, activation_bits=activation_bits)
    policies = [
        BitPolicy.uniform(layers, weight_bits=weight_bits, activation_bits=activation_bits)
        for weight_bits in UNIFORM_BITS
        for activation_bits in ((8,) if budget.weight_only else UNIFORM_BITS)
    ]
    fitting = [policy for policy in policies if is_within(policy, layers, budget.budget)]
    if not fitting:
        msg = f"No uniform policy meets the budget {budget.label!r}."
        raise InfeasibleBudgetError(msg)

    def rank(policy: BitPolicy) -> tuple[int, int, int]:
        pair = policy.provenance["uniform"]
        lead = pair["activation_bits"] - pair["weight_bits"]
        return PolicyCost.from_policy(policy, layers).bitops, -abs(lead), lead

    return max(fitting, key=rank)


def with_policy(setting: Setting, cell: Cell, policy: BitPolicy, cost: SearchCost) -> Cell:
    """Returns the cell with the policy's bits and what they cost."""
    total = PolicyCost.from_policy(policy, setting.layers_of_any_bits)
    figures = {
        "gbitops": total.gbitops,
        "weight_mib": total.weight_mib,
        "search_seconds": cost.seconds,
        "search_passes": cost.passes,
    }
    return dataclasses.replace(cell, bits=dict(policy.bits), figures=figures)


def finished_indicators(out: Path) -> set[str]:
    """Returns the names of the indicators that some seed has."""
    return {path.parent.name.rpartition("-s")[0] for path in out.glob("indicators/*/cost.json")}


def indicator_folder(setting: Setting, name: str, seed: int) -> Path:
    """Returns where the indicators of a seed are kept."""
    return setting.out / "indicators" / f"{name}-s{seed}"
