"""JSON schema of the keys that the algorithm adds to NNCF's own."""

from collections.abc import Sequence
from typing import Any

BITS = {"type": "integer", "minimum": 2, "maximum": 8}
_UNIFORM_BITS = {"type": "integer", "minimum": 1, "maximum": 32}
_BITS_BY_PATTERN = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": BITS, "minItems": 1, "uniqueItems": True},
    "description": "Pattern of layer names, as of file names, to the bits that these layers may have.",
    "default": {},
}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_COUNT = {"type": "integer", "minimum": 1}
_SHARE = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
_NOT_NEGATIVE = {"type": "number", "minimum": 0}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def section_properties(indicators: Sequence[str]) -> dict[str, Any]:
    """
    Returns the ``properties`` of the section; the defaults are those of ``LltConfig``.

    :param indicators: What ``importance.indicator`` may be.
    """
    return {
        "algorithm": {"const": "llt_quantization"},
        "target": {
            "enum": ["default", "cpu"],
            "description": "cpu: only the weights are searched, up to 7 bits, and activations stay at 8.",
            "default": "default",
        },
        "candidate_bits": {
            "type": "array",
            "items": BITS,
            "minItems": 2,
            "uniqueItems": True,
            "description": "Bit-widths that the search may choose from, for weights and activations.",
            "default": [6, 5, 4, 3, 2],
        },
        "fixed_bits": {
            **BITS,
            "description": "Bit-width of the first and the last layer, which are not searched. 7 keeps their weights "
            "from saturating on CPUs without VNNI.",
            "default": 8,
        },
        "budget": _object(
            {
                "bitops_as": {
                    **_object(
                        {"weight_bits": _UNIFORM_BITS, "activation_bits": _UNIFORM_BITS},
                        required=["weight_bits", "activation_bits"],
                    ),
                    "description": "At most the BitOPs of this uniform policy, fixed layers at their bits.",
                },
                "gbitops": {**_POSITIVE, "description": "At most this many BitOPs, in 1e9, fixed layers included."},
                "compression_ratio": {
                    **_POSITIVE,
                    "description": "At least this many times smaller than 32-bit weights, fixed layers included.",
                },
                "weight_mib": {**_POSITIVE, "description": "At most this size of all weights, in 2**20 bytes."},
                "average_weight_bits": {**_POSITIVE, "description": "At most this many bits per weight."},
                "average_activation_bits": {
                    **_POSITIVE,
                    "description": "At most this many bits of a layer's input, each layer counting by its MACs.",
                },
                "latency_ms": {**_POSITIVE, "description": "At most this many milliseconds, by latency_table."},
                "latency_table": {"type": "string", "description": "File made by llt-nncf latency-table."},
                "tables": {
                    "type": "array",
                    "items": _object({"path": {"type": "string"}, "most": _POSITIVE}, required=["path", "most"]),
                    "description": "Further cost tables, and the most that each may add up to.",
                },
                "without_fixed": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Names of limits that leave out the fixed layers.",
                },
            },
            minProperties=1,
            description="What the policy may cost; any combination at once.",
        ),
        "alpha": {
            "oneOf": [{"enum": ["auto"]}, _NOT_NEGATIVE],
            "description": "Weight of the weights' indicators, raised to search.power, against the activations' in the "
            "search; auto balances their sums; the paper takes 3, 2 and 1 for ResNet-18, ResNet-50 and MobileNetV1, "
            "with search.power 1.",
            "default": 4.0,
        },
        "search_time_limit_s": {**_POSITIVE, "default": 60.0},
        "search": _object(
            {
                "power": {**_POSITIVE, "description": "Of the indicators; 1 in the paper.", "default": 2.0},
                "outliers": {
                    "enum": ["repair", "keep", "error"],
                    "description": "Indicators that fall as the bits do: mended, taken as they are, or refused.",
                    "default": "repair",
                },
                "tolerance": {**_NOT_NEGATIVE, "description": "Relative gap to stop at; 0: proven.", "default": 0.0},
                "k_best": {
                    **_COUNT,
                    "description": "So many of the best policies are ranked by compression_ctrl.search(evaluate=...).",
                    "default": 10,
                },
                "weight_only": {
                    "type": "boolean",
                    "description": "Activations stay at their highest candidate.",
                    "default": False,
                },
                "tied": {
                    "type": "boolean",
                    "description": "Weights and input of a layer get the same bits.",
                    "default": False,
                },
                "weight_bits": _BITS_BY_PATTERN,
                "activation_bits": _BITS_BY_PATTERN,
            },
            description="Options of the search, and restrictions on what it may choose.",
        ),
        "importance": _object(
            {
                "where": {
                    "enum": ["init", "training"],
                    "description": "init: inside create_compressed_model, with the registered loader and criterion; "
                    "training: in the script's own loop, through compression_ctrl.policies().",
                    "default": "init",
                },
                "indicator": {
                    "enum": list(indicators),
                    "description": "step_size: the trained step sizes, as in the paper; normalized: over the tensor's "
                    "standard deviation, times sqrt(n); statistics: the start values, without any training; or a "
                    "function that was registered under this name.",
                    "default": "step_size",
                },
                "start_values": {
                    "enum": ["lsq", "min_max", "mse"],
                    "description": "Of the step sizes below 8 bits; at 8 they cover the range.",
                    "default": "mse",
                },
                "epochs": {"type": "integer", "minimum": 1, "default": 1},
                "max_steps": {
                    "type": "integer",
                    "minimum": 1,
                    "description": "Ends importance training early; only with where=init.",
                },
                "data_fraction": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": 1,
                    "description": "Share of the loader's batches that every epoch takes.",
                    "default": 1.0,
                },
                "accumulation_steps": {
                    **_COUNT,
                    "description": "Batches of the loader that make up one optimizer step.",
                    "default": 1,
                },
                "learning_rate": {**_POSITIVE, "default": 0.01},
                "momentum": {**_SHARE, "default": 0.9},
                "weight_decay": {**_NOT_NEGATIVE, "default": 2.5e-5},
                "step_size_learning_rate": {**_POSITIVE, "description": "Default: learning_rate."},
                "step_size_weight_decay": {**_NOT_NEGATIVE, "description": "Default: weight_decay."},
                "learning_rate_per_bit": {
                    "type": "object",
                    "properties": {str(bits): _POSITIVE for bits in range(2, 9)},
                    "additionalProperties": False,
                    "description": "Bit-width to factor on the step sizes' learning rate.",
                },
                "gradient_clip_value": {
                    **_POSITIVE,
                    "description": "Gradients are clipped to this magnitude; the authors' code takes 1.",
                },
                "sampled_policies": {"type": "integer", "minimum": 0, "default": 1},
                "tie_weight_activation": {
                    "type": "boolean",
                    "description": "A sampled policy draws one bit-width for weights and input of a layer.",
                    "default": False,
                },
                "aggregation": {
                    "enum": ["sum", "mean"],
                    "description": "Of the gradients of one step; mean only with where=init.",
                    "default": "sum",
                },
                "per_bit_batch_norm": {
                    "type": "boolean",
                    "description": "A copy of every batch norm for each bit-width, while the indicators are trained.",
                    "default": False,
                },
                "distillation": {
                    "enum": ["none", "in_place", "teacher"],
                    "description": "in_place: lower bit-widths learn from the highest one's outputs; teacher: all "
                    "learn from the float model's.",
                    "default": "none",
                },
                "indicator_ema": {**_SHARE, "description": "Decay of a moving average of the indicators."},
                "stop_at_tau": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": 1,
                    "description": "Ends the training once Kendall's tau between the layers' ranking and that of "
                    "tau_window steps ago reaches this.",
                },
                "tau_window": {**_COUNT, "default": 100},
                "seed": {"type": "integer", "default": 0},
                "on_nonfinite": {
                    "enum": ["error", "skip"],
                    "description": "A loss or gradient that is NaN or infinite ends the training, or the step is "
                    "left out.",
                    "default": "error",
                },
                "checkpoint_every": {
                    **_COUNT,
                    "description": "Steps between two checkpoints in artifacts_dir, from which a killed training goes "
                    "on.",
                    "default": 100,
                },
                "restore_weights": {
                    "type": "boolean",
                    "description": "Fine-tuning starts from the original weights instead of the jointly trained ones; "
                    "only with where=init.",
                    "default": True,
                },
                "log_every": {**_COUNT, "description": "Steps between two looks at the indicators.", "default": 10},
                "tensorboard": {
                    "type": "boolean",
                    "description": "Event files in artifacts_dir/tensorboard; needs the package tensorboard.",
                    "default": False,
                },
            },
            description="Training of the importance indicators.",
        ),
        "indicators": {
            "type": "string",
            "minLength": 1,
            "description": "Path of a saved indicators.json or scores.json: importance training is skipped.",
        },
        "policy": {
            "type": "string",
            "minLength": 1,
            "description": "Path of a saved policy.json: importance training and search are skipped.",
        },
        "artifacts_dir": {
            "type": "string",
            "minLength": 1,
            "description": "Folder for layers.json, indicators.json and policy.json; default: the config's log_dir.",
        },
    }
