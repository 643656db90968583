"""What NNCF does with checkpoints that it should not: it wraps a model before it looks, and renames what is right."""

import functools
import re
from typing import Any

import nncf.torch
import torch
from nncf import NNCFConfig
from nncf.config.extractors import extract_algorithm_names
from nncf.torch import model_creation
from nncf.torch import utils
from torch import nn
from torch._dynamo import OptimizedModule

from llt_nncf.adapter.compression_state import check_compression_state
from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.errors import StageError


def guard_creation() -> None:
    """
    Makes ``create_compressed_model`` refuse a state that this algorithm cannot go on from, as an ``ArtifactError``, and
    a model that NNCF cannot look into, as a ``StageError``.

    NNCF takes a state without one of its two parts for a plain state dict, and a state without this algorithm for one
    that says nothing of it: the model would get quantizers that were never initialized.
    """
    create = model_creation.create_compressed_model

    @functools.wraps(create)
    def create_guarded(
        model: Any, config: NNCFConfig, compression_state: dict[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if ALGORITHM_NAME in extract_algorithm_names(config):
            _refuse_wrapped(model)
            # In evaluation without gradients nn.MultiheadAttention would go by one fused kernel, past all its
            # quantizers, and so would NNCF's trace of it.
            torch.backends.mha.set_fastpath_enabled(False)
            if compression_state is not None:
                check_compression_state(compression_state)
        return create(model, config, compression_state, *args, **kwargs)

    nncf.torch.create_compressed_model = model_creation.create_compressed_model = create_guarded


def _refuse_wrapped(model: Any) -> None:
    kinds = {
        torch.jit.ScriptModule: "is TorchScript: give the module that it was made of",
        OptimizedModule: "comes from torch.compile: give the module that was compiled",
        nn.parallel.DistributedDataParallel: "is in DistributedDataParallel: put the compressed model into it",
        nn.DataParallel: "is in DataParallel: put the compressed model into it",
    }
    for kind, remedy in kinds.items():
        if isinstance(model, kind):
            msg = f"The model {remedy}."
            raise StageError(msg)


def keep_batch_norm_names() -> None:
    """
    Keeps NNCF from renaming the quantizers behind batch norms of one and three dimensions when it loads a state dict.

    It takes ``NNCFBatchNorm1d`` for the name that early versions gave to ``NNCFBatchNorm2d``.
    """
    convert = utils.maybe_convert_legacy_names_in_model_state

    @functools.wraps(convert)
    def convert_others(state_dict_to_load: dict[str, Any]) -> None:
        right = [name for name in state_dict_to_load if re.search("NNCFBatchNorm[13]d", name)]
        kept = {name: state_dict_to_load.pop(name) for name in right}
        convert(state_dict_to_load)
        state_dict_to_load.update(kept)

    utils.maybe_convert_legacy_names_in_model_state = convert_others
