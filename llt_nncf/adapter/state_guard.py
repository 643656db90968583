"""A compression state is read before the model is touched: NNCF looks at it when it has wrapped the model already."""

import functools
from typing import Any

import nncf.torch
from nncf import NNCFConfig
from nncf.config.extractors import extract_algorithm_names
from nncf.torch import model_creation

from llt_nncf.adapter.compression_state import check_compression_state
from llt_nncf.config import ALGORITHM_NAME


def guard_creation() -> None:
    """
    Makes ``create_compressed_model`` refuse a state that this algorithm cannot go on from, as an ``ArtifactError``.

    NNCF takes a state without one of its two parts for a plain state dict, and a state without this algorithm for one
    that says nothing of it: the model would get quantizers that were never initialized.
    """
    create = model_creation.create_compressed_model

    @functools.wraps(create)
    def create_guarded(
        model: Any, config: NNCFConfig, compression_state: dict[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if compression_state is not None and ALGORITHM_NAME in extract_algorithm_names(config):
            check_compression_state(compression_state)
        return create(model, config, compression_state, *args, **kwargs)

    nncf.torch.create_compressed_model = model_creation.create_compressed_model = create_guarded
