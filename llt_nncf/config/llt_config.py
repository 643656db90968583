"""The section's values, with defaults filled in."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from llt_nncf.artifacts import CostTable
from llt_nncf.config.quantizer_rules import GroupRules
from llt_nncf.cost import Budget
from llt_nncf.errors import ConfigError
from llt_nncf.errors import located

ALGORITHM_NAME = "llt_quantization"

# With the target "cpu": 8-bit weights can saturate in CPUs without VNNI, and activations below 8 bits make none faster.
_CPU_WEIGHT_BITS = 7
_CPU_ACTIVATION_BITS = 8

# Default of candidate_bits there; which quantizer may have which of them is read from NNCF's hardware configuration.
_NPU_BITS = (8, 4, 2)

# NNCF's target devices, without CPU_SPR, which it refuses itself.
_DEVICES = ("ANY", "CPU", "GPU", "NPU", "TRIAL")

# Keys of the section's "importance" that hold where the script's own loop does the training, and decides the rest.
_IN_ANY_LOOP = {"where", "indicator", "start_values", "epochs", "sampled_policies", "tie_weight_activation", "seed"}


@dataclass(frozen=True)
class ImportanceConfig:
    """Training of the importance indicators; the fields are the keys of the section's ``importance``."""

    where: str = "init"
    indicator: str = "step_size"
    start_values: str = "mse"
    epochs: int = 1
    max_steps: int | None = None
    data_fraction: float = 1.0
    accumulation_steps: int = 1
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 2.5e-5
    step_size_learning_rate: float | None = None
    step_size_weight_decay: float | None = None
    learning_rate_per_bit: Mapping[int, float] | None = None
    gradient_clip_value: float | None = None
    sampled_policies: int = 1
    tie_weight_activation: bool = False
    aggregation: str = "sum"
    per_bit_batch_norm: bool = False
    distillation: str = "none"
    indicator_ema: float | None = None
    stop_at_tau: float | None = None
    tau_window: int = 100
    seed: int = 0
    restore_weights: bool = True
    on_nonfinite: str = "error"
    checkpoint_every: int = 100
    log_every: int = 10
    tensorboard: bool = False


@dataclass(frozen=True)
class SearchConfig:
    """Options of the search; the fields are the keys of the section's ``search``."""

    power: float = 2.0
    outliers: str = "repair"
    tolerance: float = 0.0
    k_best: int = 10
    weight_only: bool = False
    tied: bool = False
    weight_bits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    activation_bits: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class LltConfig:
    """
    The section's own values; those that NNCF reads (``initializer``, scopes) stay with NNCF.

    ``budget`` is ``None`` only where ``policy`` is given.
    """

    target_device: str = "ANY"
    target: str = "default"
    candidate_bits: tuple[int, ...] = (6, 5, 4, 3, 2)
    fixed_bits: int = 8
    weights: GroupRules = GroupRules()
    activations: GroupRules = GroupRules()
    overflow_fix: str = "disable"
    budget: Budget | None = None
    alpha: float | str = 4.0
    search_time_limit_s: float = 60.0
    search: SearchConfig = SearchConfig()
    importance: ImportanceConfig = ImportanceConfig()
    indicators: str | None = None
    policy: str | None = None
    artifacts_dir: str | None = None

    @classmethod
    def from_section(
        cls, section: Mapping[str, Any], *, log_dir: str | None = None, target_device: str = "ANY"
    ) -> "LltConfig":
        """
        Reads a checked section.

        :param section: A section that ``check_section`` let pass.
        :param log_dir: The config's ``log_dir``, the default of ``artifacts_dir``.
        :param target_device: The config's ``target_device``, one that ``faults_of_device`` let pass.
        :raises ConfigError: If neither a budget nor a policy is given, or keys contradict each other.
        :raises ArtifactError: If a cost table of the budget is missing or malformed.
        :raises BudgetError: If limits of the budget contradict each other.
        """
        own = {key: section[key] for key in cls.__dataclass_fields__ if key in section}
        own |= {group: GroupRules.from_section(section, group) for group in ("weights", "activations")}
        own["target_device"] = target_device
        chosen = dict(own.pop("importance", {}))
        if "learning_rate_per_bit" in chosen:
            chosen["learning_rate_per_bit"] = {int(b): rate for b, rate in chosen["learning_rate_per_bit"].items()}
        importance = ImportanceConfig(**chosen)
        search = SearchConfig(**own.pop("search", {}))
        faults = []
        if target_device == "NPU":
            own.setdefault("candidate_bits", _NPU_BITS)
            faults += _faults_for_npu(section)
        elif own.get("target") == "cpu":
            own = {"candidate_bits": range(2, _CPU_WEIGHT_BITS + 1), "fixed_bits": _CPU_WEIGHT_BITS, **own}
            faults += _faults_for_cpu(own)
        if "budget" in own:
            own["budget"] = budget_of_section(own["budget"])
        elif "policy" not in own:
            faults.append(
                'compression.budget: missing; give for example {"bitops_as": {"weight_bits": 3, "activation_bits": 3}}.'
            )
        if "policy" in own and "indicators" in own:
            faults.append("compression.indicators: has no effect beside compression.policy; remove one of them.")
        if importance.where == "training":
            for key in sorted(set(chosen) - _IN_ANY_LOOP):
                if getattr(importance, key) != getattr(ImportanceConfig(), key):
                    faults.append(f'compression.importance.{key}: needs "where": "init"; your own loop decides it.')
        own.setdefault("artifacts_dir", log_dir)
        if importance.tensorboard and own["artifacts_dir"] is None:
            faults.append("compression.importance.tensorboard: needs a folder; give compression.artifacts_dir.")
        if faults:
            raise ConfigError("\n".join(faults))
        own["candidate_bits"] = tuple(sorted(own.get("candidate_bits", cls.candidate_bits), reverse=True))
        return cls(**own, search=search, importance=importance)

    @property
    def budget_values(self) -> dict[str, Any] | None:
        """The limits as JSON-able values."""
        return None if self.budget is None else self.budget.to_dict()

    @property
    def activation_bits(self) -> int | None:
        """The bit-width of all activations, or ``None`` where they are searched."""
        return _CPU_ACTIVATION_BITS if self.target == "cpu" else None


def faults_of_device(target_device: Any) -> list[str]:
    """Returns what is wrong with the config's ``target_device``."""
    if target_device in _DEVICES:
        return []
    return [f"target_device={target_device!r}: is not supported; give one of {', '.join(_DEVICES)}."]


def _faults_for_npu(section: Mapping[str, Any]) -> list[str]:
    faults = []
    if section.get("target") == "cpu":
        faults.append('compression.target="cpu": contradicts target_device="NPU"; remove one of the two.')
    if "preset" in section:
        faults.append("compression.preset: NNCF has none for the NPU; remove it, quantizers are symmetric anyway.")
    return faults


def _faults_for_cpu(section: Mapping[str, Any]) -> list[str]:
    faults = []
    remedy = (
        f'"target": "cpu" keeps weights at {_CPU_WEIGHT_BITS} bits or less, which cannot saturate on CPUs without '
        'VNNI; for 8-bit weights beside 8-bit activations remove it and give "search": {"weight_only": true}.'
    )
    if max(section["candidate_bits"]) > _CPU_WEIGHT_BITS:
        faults.append(f"compression.candidate_bits={list(section['candidate_bits'])}: {remedy}")
    if section["fixed_bits"] > _CPU_WEIGHT_BITS:
        faults.append(f"compression.fixed_bits={section['fixed_bits']}: {remedy}")
    for path, bits in section["weights"].bits_by_path("weights").items():
        if max(bits) > _CPU_WEIGHT_BITS:
            faults.append(f"{path}={list(bits)}: {remedy}")
    for path, bits in section["activations"].bits_by_path("activations").items():
        if bits != (_CPU_ACTIVATION_BITS,):
            faults.append(
                f'{path}={list(bits)}: "target": "cpu" keeps all activations at {_CPU_ACTIVATION_BITS} bits; remove '
                "one of the two."
            )
    if "average_activation_bits" in section.get("budget", {}):
        faults.append(
            f'compression.budget.average_activation_bits: "target": "cpu" keeps all activations at '
            f"{_CPU_ACTIVATION_BITS} bits; remove one of the two."
        )
    return faults


def budget_of_section(limits: Mapping[str, Any]) -> Budget:
    """
    Returns the limits of a ``budget`` section; the tables that it names are loaded.

    :raises ArtifactError: If a table is missing or malformed.
    :raises BudgetError: If there is no limit, or one makes no sense.
    """
    values = dict(limits)
    if "bitops_as" in values:
        values["bitops_as"] = (values["bitops_as"]["weight_bits"], values["bitops_as"]["activation_bits"])
    if "latency_table" in values:
        with located("compression.budget.latency_table"):
            values["latency_table"] = CostTable.load(values["latency_table"])
    with located("compression.budget.tables"):
        values["tables"] = tuple((CostTable.load(row["path"]), row["most"]) for row in values.get("tables", ()))
    values["without_fixed"] = tuple(values.get("without_fixed", ()))
    return Budget(**values)
