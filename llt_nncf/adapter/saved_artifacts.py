"""What the config has kept in ``artifacts_dir``, by the first rank for all."""

from pathlib import Path
from typing import Any

from llt_nncf.config import LltConfig
from llt_nncf.errors import ArtifactError
from llt_nncf.indicators import is_first_rank


def writable_folder(config: LltConfig) -> Path | None:
    """Returns the folder that this process is to write to; ``None`` if none is named, or another rank writes."""
    return Path(config.artifacts_dir) if config.artifacts_dir is not None and is_first_rank() else None


def save_artifact(artifact: Any, config: LltConfig, file_name: str) -> None:
    """
    Saves ``artifact`` under its name, if anything is to be kept here.

    :param artifact: Has ``save(path)``.
    :raises ArtifactError: If the folder cannot be made or written to.
    """
    folder = writable_folder(config)
    if folder is None:
        return
    try:
        artifact.save(folder / file_name)
    except OSError as error:
        msg = f"{folder}, from compression.artifacts_dir or log_dir, cannot be written to: {error}"
        raise ArtifactError(msg) from error
