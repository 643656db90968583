"""What is to be compared: the config of a comparison, checked."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any

from models import check_name
from plan_schema import PLAN_SCHEMA

from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import read_json
from llt_nncf.config import LltConfig
from llt_nncf.config import SearchConfig
from llt_nncf.config import budget_of_section
from llt_nncf.config import raise_faults
from llt_nncf.config import section_faults
from llt_nncf.cost import Budget
from llt_nncf.errors import LltError

# Kind to the names that ``rival`` may have there.
RIVALS = {"rival": ("hawq", "mct", "diffq"), "native": ("nncf_int8", "diffq")}
# A budget that every policy meets, for what is made once for all of them.
ANY_POLICY = {"bitops_as": {"weight_bits": 8, "activation_bits": 8}}


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

        :param path: A JSON file.
        :raises ArtifactError: If it is missing, or no JSON.
        :raises ConfigError: If a key is unknown or missing, a value wrong, or a name does not exist; all are named.
        """
        content = read_json(path)
        faults = section_faults({"config": content}, {"config": PLAN_SCHEMA}, where="")
        raise_faults([fault.removeprefix("config.") for fault in faults], where=f"{path}")
        about = content.get("about", [])
        content["about"] = about if isinstance(about, str) else "\n".join(about)
        content["finetuning"] = Finetuning(**content["finetuning"])
        for key, kind in (("methods", Method), ("budgets", TargetBudget)):
            content[key] = {name: kind(**_with_tuples(row)) for name, row in content[key].items()}
        plan = cls(**_with_tuples(content))
        faults = [*_unknown_names(plan), *_faulty_sections(plan), *_repeated_labels(plan)]
        raise_faults(faults, where=f"{path}")
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


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _unknown_names(plan: Plan) -> list[str]:
    faults = []
    try:
        check_name(plan.model)
    except ValueError as error:
        faults.append(f"model: {error}")
    for key, method in plan.methods.items():
        where = f"methods.{key}"
        if method.kind == "indicators" and method.indicators not in plan.indicators:
            faults.append(f"{where}.indicators is {method.indicators!r}; there are {', '.join(plan.indicators)}.")
        if method.kind in RIVALS and method.rival not in RIVALS[method.kind]:
            faults.append(f"{where}.rival is {method.rival!r}; there are {', '.join(RIVALS[method.kind])}.")
        unknown = [name for name in method.budgets if name not in plan.budgets]
        faults += [f"{where}.budgets names {name!r}; there are {', '.join(plan.budgets)}." for name in unknown]
    return faults


def _faulty_sections(plan: Plan) -> list[str]:
    """What contradicts itself in a budget, in the section that all share, or in that with an importance training."""
    checks: dict[str, Callable[[], object]] = {
        f"budgets.{key}.limits": partial(budget_of_section, budget.limits)
        for key, budget in plan.budgets.items()
        if budget.uniform_bits is None
    }
    trainings = {f"indicators.{key}": section for key, section in plan.indicators.items()}
    for where, section in {"compression": {}, **trainings}.items():
        joined = {**plan.compression, "importance": section, "budget": ANY_POLICY}
        checks[where] = partial(LltConfig.from_section, joined, log_dir="", target_device="CPU")
    faults: dict[str, str] = {}
    for where, check in checks.items():
        try:
            check()
        except LltError as error:
            faults.setdefault(str(error), where)  # what is wrong in the shared section is so in all
    return [f"{where}: {fault}" for fault, where in faults.items()]


def _repeated_labels(plan: Plan) -> list[str]:
    """Labels are what a reader knows a method or a budget by."""
    return [
        f"{key}.*.label has {label!r} more than once."
        for key in ("methods", "budgets")
        for label, count in Counter(row.label for row in getattr(plan, key).values()).items()
        if count > 1
    ]
