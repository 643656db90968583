"""The section's schema in NNCF's own config validation."""

from typing import Any

from nncf import NNCFConfig
from nncf.config.schema import REF_VS_ALGO_SCHEMA

from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.config import NNCF_PROPERTIES
from llt_nncf.config import faults_of_device
from llt_nncf.config import raise_faults
from llt_nncf.config import section_faults
from llt_nncf.config import section_properties
from llt_nncf.errors import ConfigError
from llt_nncf.indicators import OWN_INDICATORS
from llt_nncf.indicators import registered_indicators

# Keys of the whole config that NNCF takes for every algorithm's.
_GLOBAL_KEYS = ("ignored_scopes", "target_scopes", "compression_lr_multiplier")


def full_properties() -> dict[str, Any]:
    """Returns the schema of every key of the section: ours and those that it shares with NNCF's quantization."""
    return {**section_properties([*OWN_INDICATORS, *registered_indicators()]), **NNCF_PROPERTIES}


def check_config(config: dict[str, Any]) -> None:
    """
    Checks every ``llt_quantization`` section of a config, and the keys outside that bear on it.

    :param config: The config as loaded from JSON.
    :raises ConfigError: With all faults, or if another algorithm stands beside ours.
    """
    compression = config.get("compression", [])
    is_list = isinstance(compression, list)
    sections = compression if is_list else [compression]
    algorithms = [section.get("algorithm") for section in sections if isinstance(section, dict)]
    faults = []
    for index, section in enumerate(sections):
        if isinstance(section, dict) and section.get("algorithm") == ALGORITHM_NAME:
            where = f"compression[{index}]" if is_list else "compression"
            faults += section_faults(section, full_properties(), where=where)
    if ALGORITHM_NAME in algorithms:
        faults += faults_of_device(config.get("target_device", "ANY"))
        properties = {key: NNCF_PROPERTIES[key] for key in _GLOBAL_KEYS}
        faults += section_faults({key: config[key] for key in _GLOBAL_KEYS if key in config}, properties, where="")
    raise_faults(faults)
    if ALGORITHM_NAME in algorithms and len(algorithms) > 1:
        others = ", ".join(repr(name) for name in algorithms if name != ALGORITHM_NAME) or "itself"
        msg = f"compression: {ALGORITHM_NAME!r} cannot be combined with {others} yet; keep one of them."
        raise ConfigError(msg)


def register_schema() -> None:
    """Makes NNCF accept the section, and words faults in it before NNCF does (whose message names no key)."""
    schema = NNCFConfig.schema()
    if ALGORITHM_NAME in schema["$defs"]:
        return
    properties = full_properties()
    # NNCF keeps this schema; scripts register their indicators later, and our own check knows which.
    properties["importance"]["properties"]["indicator"] = {"type": "string"}
    section = {"type": "object", "properties": properties, "additionalProperties": False}
    schema["$defs"][ALGORITHM_NAME] = section
    REF_VS_ALGO_SCHEMA[ALGORITHM_NAME] = section
    # The single-object and the array form of "compression" share one list: appended twice, it would match twice.
    alternatives = schema["properties"]["compression"]["oneOf"][0]["oneOf"]
    alternatives.append({"$ref": f"#/$defs/{ALGORITHM_NAME}"})

    validate = NNCFConfig.validate

    def validate_with_key_paths(loaded_json: dict[str, Any]) -> None:
        check_config(loaded_json)
        validate(loaded_json)

    NNCFConfig.validate = staticmethod(validate_with_key_paths)
