"""
JSON schema of the keys that the section shares with NNCF's ``quantization``: honoured, or refused with the remedy.

Two keywords are added to JSON Schema, which ``section_check`` knows and others pass over: ``refused``, a list of
``{"remedy": ...}`` for every value or ``{"value": ..., "remedy": ...}`` for one; and ``scopes``, for the names of
operations or patterns of them behind ``{re}``.
"""

from typing import Any

from llt_nncf.config.section_schema import BITS

_BOOLEAN = {"type": "boolean"}
_COUNT = {"type": "integer", "minimum": 0}
_PERCENTILE = {"type": "number", "minimum": 0, "maximum": 100}
_SCOPES = {"type": ["string", "array"], "items": {"type": "string"}, "scopes": True}
_SCOPING = {"ignored_scopes": _SCOPES, "target_scopes": _SCOPES}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def _refused(remedy: str, *values: Any) -> list[dict[str, Any]]:
    return [{"value": value, "remedy": remedy} for value in values] or [{"remedy": remedy}]


_MODE = {
    "enum": ["symmetric", "asymmetric"],
    "refused": _refused(
        'every quantizer is symmetric, its step size being the importance indicator; remove it or give "symmetric".',
        "asymmetric",
    ),
}
_RANGE = {
    "num_init_samples": _COUNT,
    "type": {"enum": ["mixed_min_max", "min_max", "mean_min_max", "threesigma", "percentile", "mean_percentile"]},
    "params": _object({"min_percentile": _PERCENTILE, "max_percentile": _PERCENTILE}),
}
_BITS_OR_CANDIDATES = {
    **BITS,
    "type": ["integer", "array"],
    "items": BITS,
    "minItems": 1,
    "uniqueItems": True,
    "description": "One bit-width fixes the quantizers; a list has the candidates of the search.",
}
_WEIGHTS = {
    "mode": _MODE,
    "bits": _BITS_OR_CANDIDATES,
    "signed": {**_BOOLEAN, "refused": _refused("weights have both signs; remove it or give true.", False)},
    "per_channel": _BOOLEAN,
}
_ACTIVATIONS = {
    "mode": _MODE,
    "bits": _BITS_OR_CANDIDATES,
    "signed": _BOOLEAN,
    "per_channel": {
        **_BOOLEAN,
        "refused": _refused(
            "no engine has an integer kernel for activations with a step size per channel; remove it or give false.",
            True,
        ),
    },
}
_GROUP = {
    **_SCOPING,
    "logarithm_scale": {
        **_BOOLEAN,
        "refused": _refused(
            "step sizes are trained as they are, with LSQ's gradient, and are importance indicators only so; remove "
            "it, and give importance.step_size_learning_rate to train them more slowly.",
            True,
        ),
    },
}
# In NNCF's schema, but its own code does not read them there.
_NOT_READ = {
    "validate_scopes": {"refused": _refused("holds for the whole section; give compression.validate_scopes.")},
}
_RANGE_BY_SCOPE = {
    "initializer": {
        "refused": _refused(
            "NNCF does not read it there; give compression.initializer.range as a list with target_scopes."
        )
    },
}


def _by_scope(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "propertyNames": {"scopes": True},
        "additionalProperties": _object({**properties, **_RANGE_BY_SCOPE}, minProperties=1),
    }


NNCF_PROPERTIES: dict[str, Any] = {
    "initializer": _object(
        {
            "batchnorm_adaptation": _object({"num_bn_adaptation_samples": _COUNT}),
            "range": {
                **_object(_RANGE),
                "type": ["object", "array"],
                "minItems": 1,
                "items": _object(
                    {
                        **_RANGE,
                        **_SCOPING,
                        **_NOT_READ,
                        "target_quantizer_group": {"enum": ["weights", "activations"]},
                    },
                    anyOf=[{"required": ["target_scopes"]}, {"required": ["ignored_scopes"]}],
                ),
            },
            "precision": {
                "refused": _refused(
                    "the bits are searched by importance indicators; give compression.budget, and "
                    "compression.candidate_bits for the bit-widths."
                )
            },
        }
    ),
    "preset": {
        "enum": ["performance", "mixed"],
        "refused": _refused('it makes activations asymmetric; remove it or give "performance".', "mixed"),
    },
    "quantize_inputs": _BOOLEAN,
    "quantize_outputs": _BOOLEAN,
    "weights": _object({**_WEIGHTS, **_GROUP, **_NOT_READ}),
    "activations": _object(
        {
            **_ACTIVATIONS,
            **_GROUP,
            **_NOT_READ,
            "unified_scale_ops": {
                "type": "array",
                "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
            },
        }
    ),
    "scope_overrides": _object({"weights": _by_scope(_WEIGHTS), "activations": _by_scope(_ACTIVATIONS)}),
    "export_to_onnx_standard_ops": {
        **_BOOLEAN,
        "refused": _refused(
            "models are exported with ONNX's standard operations, which OpenVINO reads too; remove it or give true.",
            False,
        ),
    },
    "overflow_fix": {"enum": ["enable", "disable", "first_layer_only"]},
    "params": {
        "refused": _refused(
            "quantizers are never switched off for some epochs; importance training takes that place, see "
            "compression.importance."
        )
    },
    **_SCOPING,
    "validate_scopes": _BOOLEAN,
    "compression_lr_multiplier": {"type": "number", "minimum": 0},
}
