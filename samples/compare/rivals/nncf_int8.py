"""NNCF's plain 8-bit quantization (nncf 2.19, Apache-2.0), as a policy of ours and as NNCF makes it."""

import copy
import os
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", "0")

import llt_nncf.register  # noqa: F401  selects the tracing that create_compressed_model needs

# isort: split

from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from torch import nn
from torch.utils.data import DataLoader

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable

_BITS = 8
_INIT_SAMPLES = 512


def int8_policy(table: LayerTable) -> BitPolicy:
    """
    8 bits for every weight and activation.

    :param table: The layers; 8 must be among the candidates of each.
    :raises ArtifactError: If it is not.
    """
    policy = BitPolicy.uniform(table, weight_bits=_BITS, activation_bits=_BITS)
    return BitPolicy(policy.bits, {"rival": "nncf int8"})


def int8_model(model: nn.Module, loader: DataLoader) -> tuple[nn.Module, Any]:
    """
    The model with NNCF's own 8-bit quantizers for CPUs, ready to be fine-tuned.

    :param model: The float model; a copy is quantized.
    :param loader: Batches of (images, labels), for the ranges and the batch norms.
    :return: The quantized model and NNCF's controller.
    """
    images, _ = next(iter(loader))
    with TemporaryDirectory() as folder:
        content = {
            "input_info": {"sample_size": [1, *images.shape[1:]]},
            "target_device": "CPU",
            "log_dir": folder,
            "compression": {
                "algorithm": "quantization",
                "initializer": {
                    "range": {"num_init_samples": _INIT_SAMPLES},
                    "batchnorm_adaptation": {"num_bn_adaptation_samples": _INIT_SAMPLES},
                },
            },
        }
        config = register_default_init_args(NNCFConfig.from_dict(content), loader)
        ctrl, quantized = create_compressed_model(copy.deepcopy(model), config, dump_graphs=False)
    return quantized, ctrl
