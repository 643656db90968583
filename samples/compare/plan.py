"""What is to be compared: the config of a comparison, checked."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from llt_nncf.artifacts import LayerTable
from llt_nncf.config import LltConfig
from llt_nncf.config import SearchConfig
from llt_nncf.config import budget_of_section
from llt_nncf.cost import Budget
from llt_nncf.errors import BudgetError
from llt_nncf.errors import ConfigError
from llt_nncf.errors import located

KINDS = ("uniform", "indicators", "rival", "native")
# Kind to the names that ``rival`` may have there.
RIVALS = {"rival": ("hawq", "mct", "diffq"), "native": ("nncf_int8", "diffq")}
ORDERS = ("as_trained", "shuffled", "reversed")


@dataclass(frozen=True)
class Method:
    """
    A way to choose bits.

    :param label: For the reader.
    :param kind: ``uniform``: the dearest uniform policy in the budget; ``indicators``: our search; ``rival``: bits of
        another tool in our quantizers; ``native``: another tool with quantizers of its own.
    :param indicators: Name in ``Plan.indicators``, of ``indicators``.
    :param alpha: Of the search; the package's default, if not given.
    :param power: Of the indicators in the search.
    :param order: Whether the layers keep their indicators: ``shuffled``, drawn by the seed, and ``reversed``, the most
        important layer has those of the least, are controls.
    :param rival: Name of the other tool.
    :param budgets: The budgets at which it runs; all, if none is named.
    """

    label: str
    kind: str
    indicators: str = ""
    alpha: float | str = LltConfig.alpha
    power: float = SearchConfig.power
    order: str = "as_trained"
    rival: str = ""
    budgets: tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetBudget:
    """
    A budget that all methods have to meet.

    :param label: For the reader.
    :param limits: As in ``compression.budget``; none for a reference, which only ``uniform_bits`` fills.
    :param weight_only: Activations stay at 8 bits.
    :param uniform_bits: (weight bits, activation bits) of a reference.
    """

    label: str
    limits: Mapping[str, Any] = field(default_factory=dict)
    weight_only: bool = False
    uniform_bits: tuple[int, int] | None = None

    @property
    def budget(self) -> Budget:
        """The limits as the search takes them."""
        return budget_of_section(self.limits)

    def table(self, layers: LayerTable) -> LayerTable:
        """Returns the layers with the candidates that are left here."""
        if not self.weight_only:
            return layers
        return LayerTable(tuple(dataclasses.replace(layer, activation_bits=(8,)) for layer in layers.layers))


@dataclass(frozen=True)
class Finetuning:
    """
    The training that every method gets after its choice.

    :param epochs: Over the whole training set.
    :param batch_size: Images.
    :param learning_rate: Of SGD with momentum 0.9, at the start of a cosine.
    :param weight_decay: L2 regularisation.
    :param label_smoothing: Of the cross entropy with the labels.
    :param distillation_temperature: If given, the float model's outputs, softened by it, take the labels' place.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    distillation_temperature: float | None = None


@dataclass(frozen=True)
class Plan:
    """
    The whole comparison.

    :param about: For the reader.
    :param dataset: As in the classification sample, like ``model``.
    :param model: The model.
    :param seeds: Each is a repetition of everything.
    :param compression: The ``llt_quantization`` section that all methods share.
    :param finetuning: The training after the choice.
    :param indicators: Name to the ``importance`` section that makes them.
    :param methods: Key to method, in the order of the tables.
    :param budgets: Key to budget, in the order of the tables.
    """

    about: str
    dataset: str
    model: str
    seeds: tuple[int, ...]
    compression: Mapping[str, Any]
    finetuning: Finetuning
    indicators: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Method]
    budgets: Mapping[str, TargetBudget]

    @classmethod
    def load(cls, path: Path | str) -> "Plan":
        """
        Loads a config.

        :raises ConfigError: If a key is unknown or missing, or a name does not exist; all faults are named.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        about = content.get("about", [])
        content["about"] = about if isinstance(about, str) else "\n".join(about)
        faults: list[str] = []
        content["finetuning"] = _made(Finetuning, content.get("finetuning", {}), "finetuning", faults)
        for key, kind in (("methods", Method), ("budgets", TargetBudget)):
            rows = {name: _made(kind, row, f"{key}.{name}", faults) for name, row in content.get(key, {}).items()}
            content[key] = rows
        plan = _made(cls, content, "", faults) if not faults else None
        faults += [*_unknown_names(plan), *_wrong_budgets(plan), *_repeated(plan)] if plan else []
        if faults:
            msg = f"{path}: {'; '.join(faults)}."
            raise ConfigError(msg)
        return plan

    def cells(self) -> list[tuple[str, str, int]]:
        """Returns (method, budget, seed) of every cell; seed by seed, so that the first is complete early."""
        return [
            (method, budget, seed)
            for seed in self.seeds
            for budget in self.budgets
            for method in self.methods
            if self._belongs(method, budget)
        ]

    def _belongs(self, method: str, budget: str) -> bool:
        if self.methods[method].budgets:
            return budget in self.methods[method].budgets
        return self.budgets[budget].uniform_bits is None or self.methods[method].kind == "uniform"


def _made(kind: type, values: Mapping[str, Any], where: str, faults: list[str]) -> Any:
    """An object of ``kind``, or ``None`` with the faults added."""
    fields = dataclasses.fields(kind)
    names = [f.name for f in fields]
    prefix = f"{where}." if where else ""
    needed = [f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    own = [f"{prefix}{key} is unknown; there are {', '.join(names)}" for key in values if key not in names]
    own += [f"{prefix}{key} is missing" for key in needed if key not in values]
    faults += own
    if own:
        return None
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _unknown_names(plan: Plan) -> list[str]:
    faults = []
    for key, method in plan.methods.items():
        where = f"methods.{key}"
        if method.kind not in KINDS:
            faults.append(f"{where}.kind is {method.kind!r}, and must be one of {', '.join(KINDS)}")
        if method.order not in ORDERS:
            faults.append(f"{where}.order is {method.order!r}, and must be one of {', '.join(ORDERS)}")
        if method.kind == "indicators" and method.indicators not in plan.indicators:
            faults.append(f"{where}.indicators is {method.indicators!r}; there are {', '.join(plan.indicators)}")
        if method.kind in RIVALS and method.rival not in RIVALS[method.kind]:
            faults.append(f"{where}.rival is {method.rival!r}; there are {', '.join(RIVALS[method.kind])}")
        faults += [f"{where}.budgets names {name!r}" for name in method.budgets if name not in plan.budgets]
    return faults


def _wrong_budgets(plan: Plan) -> list[str]:
    faults = []
    for key, budget in plan.budgets.items():
        if budget.uniform_bits is None:
            try:
                with located(f"budgets.{key}.limits"):
                    _ = budget.budget
            except BudgetError as error:
                faults.append(str(error).rstrip("."))
    return faults


def _repeated(plan: Plan) -> list[str]:
    """What must be there once: seeds, each of which is a cell, and labels, by which a reader knows what is meant."""
    values = {"seeds": plan.seeds} | {
        f"{key}.*.label": [row.label for row in getattr(plan, key).values()] for key in ("methods", "budgets")
    }
    return [
        f"{where} has {value!r} more than once"
        for where, own in values.items()
        for value, count in Counter(own).items()
        if count > 1
    ]
