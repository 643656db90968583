"""A fine-tuned model back from its checkpoint, without training data."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nncf import NNCFConfig
from nncf.api.compression import CompressionStage
from nncf.torch import create_compressed_model
from nncf.torch import load_state
from torch import nn

from llt_nncf.adapter.composite import LltCompositeController
from llt_nncf.adapter.controller import LltQuantizationController
from llt_nncf.artifacts import check_zip
from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import ConfigError
from llt_nncf.errors import LltError
from llt_nncf.errors import located

# The model's state and the compression state, by the names of this package's sample and of NNCF's documentation.
_NAMES = (("model", "compression"), ("state_dict", "compression_state"))


def restore(
    model: nn.Module, config_path: Path | str, checkpoint_path: Path | str, *, input_shape: Sequence[int] | None = None
) -> LltQuantizationController | LltCompositeController:
    """
    Compresses ``model`` as the checkpoint's was, and gives it the checkpoint's weights.

    :param model: The float model; changed in place.
    :param config_path: The NNCF config that the model was trained with.
    :param checkpoint_path: ``{"model": compressed_model.state_dict(), "compression":
        compression_ctrl.get_compression_state()}``, saved by ``torch.save``; nothing in it is run. NNCF's
        names, ``state_dict`` and ``compression_state``, do as well.
    :param input_shape: Shape of the model's input, for a config without ``input_info``.
    :return: The controller; the model is ``controller.model``.
    :raises FileNotFoundError: If one of the files is not there.
    :raises ConfigError: If the config cannot be read, or is no config of this algorithm.
    :raises ArtifactError: If the checkpoint cannot be read, or is of another model.
    :raises InvalidIndicatorError: If its indicators are not usable.
    """
    config = _load_config(config_path, input_shape)
    checkpoint = _load_checkpoint(checkpoint_path)
    try:
        with warnings.catch_warnings(), located(checkpoint_path):
            # NNCF 3 has nothing in the place of what is deprecated here.
            warnings.simplefilter("ignore", FutureWarning)
            controller, compressed = create_compressed_model(
                model, config, compression_state=checkpoint["compression"], dump_graphs=False
            )
            load_state(compressed, checkpoint["model"], is_resume=True)
    except LltError:
        raise
    except Exception as error:  # NNCF has no errors of its own for that
        msg = f"{checkpoint_path}: is not of this model and config: {type(error).__name__}: {error}"
        raise ArtifactError(msg) from error
    return controller


def _load_config(path: Path | str, input_shape: Sequence[int] | None) -> NNCFConfig:
    try:
        content = dict(NNCFConfig.from_json(str(path)))
    except (LltError, OSError):
        raise
    except Exception as error:  # of JSON, of its schema, or of what NNCF makes of something else
        msg = f"{path}: not an NNCF config in JSON: {error}"
        raise ConfigError(msg) from error
    sections = content.get("compression", {})
    algorithms = [section.get("algorithm") for section in (sections if isinstance(sections, list) else [sections])]
    if ALGORITHM_NAME not in algorithms:
        found = algorithms[0] if len(algorithms) == 1 else algorithms
        msg = f"{path}: compression.algorithm={found!r}: must be {ALGORITHM_NAME!r}."
        raise ConfigError(msg)
    if input_shape is not None:
        content.setdefault("input_info", {"sample_size": list(input_shape)})
    info = content.get("input_info")
    if isinstance(info, list) and len(info) == 1:
        content["input_info"] = info = info[0]
    if not isinstance(info, dict) or "sample_size" not in info:
        example = '{"sample_size": [1, 3, 224, 224]}'
        msg = f"{path}: needs the input_info of one input, for example {example}, or samples to take it from."
        raise ConfigError(msg)
    return NNCFConfig.from_dict(content)


def _load_checkpoint(path: Path | str) -> dict[str, Any]:
    try:
        check_zip(path)
        # The one class in the compression states of other algorithms, an enumeration.
        with torch.serialization.safe_globals([CompressionStage]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # pickle's, zip's or PyTorch's own; its text would advise to run what is in the file
        msg = f"{path}: not a checkpoint of tensors and plain values, or a damaged one ({type(error).__name__})."
        raise ArtifactError(msg) from error
    for model, compression in _NAMES:
        if isinstance(checkpoint, dict) and {model, compression} <= set(checkpoint):
            return {"model": checkpoint[model], "compression": checkpoint[compression]}
    found = sorted(map(str, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__
    msg = (
        f"{path}: has {found}; must have 'model' and 'compression', or 'state_dict' and 'compression_state': save "
        '{"model": compressed_model.state_dict(), "compression": '
        "compression_ctrl.get_compression_state()}."
    )
    raise ArtifactError(msg)
