"""What the config has kept in ``artifacts_dir``, by the first rank for all."""

from pathlib import Path
from typing import Any

from llt_nncf.config import LltConfig
from llt_nncf.indicators import is_first_rank


def writable_folder(config: LltConfig) -> Path | None:
    """Returns the folder that this process is to write to; ``None`` if none is named, or another rank writes."""
    return Path(config.artifacts_dir) if config.artifacts_dir is not None and is_first_rank() else None


def save_artifact(artifact: Any, config: LltConfig, file_name: str) -> None:
    """
    Saves ``artifact`` under its name, if anything is to be kept here.

    :param artifact: Has ``save(path)``.
    """
    folder = writable_folder(config)
    if folder is not None:
        artifact.save(folder / file_name)
