"""The section's values, with defaults filled in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llt_nncf.cost import Budget
from llt_nncf.errors import ConfigError

ALGORITHM_NAME = "llt_quantization"

# Keys of the section's "importance" that the script's own loop decides where it does the training.
_ONLY_AT_INIT = {"max_steps", "learning_rate", "momentum", "weight_decay", "aggregation", "restore_weights"}


@dataclass(frozen=True)
class ImportanceConfig:
    """Training of the importance indicators; the fields are the keys of the section's ``importance``."""

    where: str = "init"
    epochs: int = 1
    max_steps: int | None = None
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 2.5e-5
    sampled_policies: int = 1
    aggregation: str = "sum"
    seed: int = 0
    restore_weights: bool = True


@dataclass(frozen=True)
class LltConfig:
    """
    The section's own values; those that NNCF reads (``initializer``, ``weights``, scopes) stay with NNCF.

    ``budget`` is ``None`` only where ``policy`` is given.
    """

    candidate_bits: tuple[int, ...] = (6, 5, 4, 3, 2)
    fixed_bits: int = 8
    budget: Budget | None = None
    alpha: float | str = 1.0
    search_time_limit_s: float = 60.0
    importance: ImportanceConfig = ImportanceConfig()
    indicators: str | None = None
    policy: str | None = None
    artifacts_dir: str | None = None

    @classmethod
    def from_section(cls, section: Mapping[str, Any], *, log_dir: str | None = None) -> "LltConfig":
        """
        Reads a checked section.

        :param section: A section that ``check_section`` let pass.
        :param log_dir: The config's ``log_dir``, the default of ``artifacts_dir``.
        :raises ConfigError: If neither a budget nor a policy is given, or keys contradict each other.
        """
        own = {key: section[key] for key in cls.__dataclass_fields__ if key in section}
        importance = ImportanceConfig(**own.pop("importance", {}))
        faults = []
        if "budget" in own:
            limits = dict(own["budget"])
            if "bitops_as" in limits:
                uniform = limits["bitops_as"]
                limits["bitops_as"] = (uniform["weight_bits"], uniform["activation_bits"])
            own["budget"] = Budget(**limits)
        elif "policy" not in own:
            faults.append(
                'compression.budget: missing; give for example {"bitops_as": {"weight_bits": 3, "activation_bits": 3}}.'
            )
        if "policy" in own and "indicators" in own:
            faults.append("compression.indicators: has no effect beside compression.policy; remove one of them.")
        if importance.where == "training":
            for key in sorted(_ONLY_AT_INIT & set(section["importance"])):
                if getattr(importance, key) != getattr(ImportanceConfig(), key):
                    faults.append(f'compression.importance.{key}: needs "where": "init"; your own loop decides it.')
        if faults:
            raise ConfigError("\n".join(faults))
        own["candidate_bits"] = tuple(sorted(own.get("candidate_bits", cls.candidate_bits), reverse=True))
        own.setdefault("artifacts_dir", log_dir)
        return cls(**own, importance=importance)
