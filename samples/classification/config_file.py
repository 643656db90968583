"""The NNCF config that a script trains with, checked before it does."""

from typing import Any

import llt_nncf.register  # noqa: F401  its check is part of NNCF's then

# isort: split

from nncf import NNCFConfig

from llt_nncf.artifacts import read_json
from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.config import LltConfig
from llt_nncf.errors import ConfigError


def load_config(path: str) -> dict[str, Any]:
    """
    Loads a config with an ``llt_quantization`` section; else what is wrong would show after the float training.

    :param path: A JSON file.
    :raises ArtifactError: If it is missing, or no JSON.
    :raises ConfigError: If there is no such section, or something in it is wrong; all faults are named.
    """
    config = read_json(path)
    section = config.get("compression") if isinstance(config, dict) else None
    if not isinstance(section, dict) or section.get("algorithm") != ALGORITHM_NAME:
        msg = f"{path}: compression must be a section of the algorithm {ALGORITHM_NAME}, as in configs/digits.json."
        raise ConfigError(msg)
    NNCFConfig.validate(config)
    LltConfig.from_section(section, log_dir="", target_device=config.get("target_device", "ANY"))
    return config
