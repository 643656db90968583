"""Masks that sparsity and pruning beside our algorithm put on a layer's parameters."""

from types import SimpleNamespace
from typing import Any

import torch
from nncf.torch.module_operations import UpdateWeightAndBias
from nncf.torch.nncf_network import NNCFNetwork
from nncf.torch.pruning.filter_pruning.layers import FilterPruningMask
from nncf.torch.sparsity.layers import BinaryMask
from torch import Tensor
from torch import nn


def masked_bias(module: Any) -> Tensor | None:
    """
    Returns a layer's bias as its forward uses it.

    :param module: The layer, with NNCF's operations in front of it; some classes have none.
    """
    bias = module.bias
    for operation in getattr(module, "pre_ops", {}).values():
        if isinstance(operation, UpdateWeightAndBias) and isinstance(operation.op, FilterPruningMask):
            bias = operation.op(bias=bias)[0]
    return bias


@torch.no_grad()
def bake_masks(model: NNCFNetwork) -> None:
    """
    Multiplies all masks into the parameters that they are on, and removes them; the outputs stay as they are.

    NOTE: not by the other algorithms' own ``strip_model``: that of filter pruning also clears the weights that read a
    pruned channel, which changes the outputs where the channel is not zero (``prune_batch_norms: false``, a sigmoid);
    that of RB sparsity applies the masks of the last checkpoint.

    :param model: The compressed model, in evaluation mode; changed in place.
    """
    for module in model.modules():
        for key, operation in list(getattr(module, "pre_ops", {}).items()):
            if not isinstance(operation.op, (BinaryMask, FilterPruningMask)):
                continue
            masked = SimpleNamespace(weight=module.weight, bias=module.bias)
            operation(masked, None)
            # Not in place: another layer that has the same parameter may have another mask.
            module.weight = nn.Parameter(masked.weight.clone())
            if module.bias is not None:
                module.bias = nn.Parameter(masked.bias.clone())
            module.remove_pre_forward_operation(key)
