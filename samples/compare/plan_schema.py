"""JSON schema of a comparison's config."""

from typing import Any

from datasets import DATASETS

from llt_nncf.config import NNCF_PROPERTIES
from llt_nncf.config import section_properties
from llt_nncf.config.section_schema import BITS
from llt_nncf.indicators import OWN_INDICATORS

_SECTION = {**section_properties(OWN_INDICATORS), **NNCF_PROPERTIES}
_TEXT = {"type": "string"}
_NAMES = {"type": "array", "items": _TEXT}
_COUNT = {"type": "integer", "minimum": 1}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _by_name(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": schema}


_FINETUNING = _object(
    {
        "epochs": _COUNT,
        "batch_size": _COUNT,
        "learning_rate": _POSITIVE,
        "weight_decay": {"type": "number", "minimum": 0},
        "label_smoothing": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        "distillation_temperature": _POSITIVE,
    },
    *("epochs", "batch_size", "learning_rate"),
)
_METHOD = _object(
    {
        "label": _TEXT,
        "kind": {"enum": ["uniform", "indicators", "rival", "native"]},
        "indicators": _TEXT,
        "alpha": _SECTION["alpha"],
        "power": _SECTION["search"]["properties"]["power"],
        "order": {"enum": ["as_trained", "shuffled", "reversed"]},
        "rival": _TEXT,
        "budgets": _NAMES,
    },
    *("label", "kind"),
)
_BUDGET = _object(
    {
        "label": _TEXT,
        "limits": _SECTION["budget"],
        "weight_only": {"type": "boolean"},
        "uniform_bits": {"type": "array", "items": BITS, "minItems": 2, "maxItems": 2},
    },
    "label",
)
PLAN_SCHEMA = _object(
    {
        "about": {"type": ["string", "array"], "items": _TEXT},
        "dataset": {"enum": DATASETS},
        "model": _TEXT,
        "seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
        "compression": _object(_SECTION, "algorithm"),
        "finetuning": _FINETUNING,
        "indicators": _by_name(_SECTION["importance"]),
        "methods": _by_name(_METHOD),
        "budgets": _by_name(_BUDGET),
    },
    *("dataset", "model", "seeds", "compression", "finetuning", "indicators", "methods", "budgets"),
)
