"""The batch norms that freezing folds into the layers in front of them."""

from collections.abc import Collection
from typing import Any

import torch
from nncf.common.graph import NNCFGraph
from nncf.common.graph import NNCFNode
from nncf.common.graph.layer_attributes import LinearLayerAttributes
from nncf.torch import no_nncf_trace
from nncf.torch.nncf_network import NNCFNetwork
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from llt_nncf.functional import training_mode

BATCH_NORM = "batch_norm"  # NNCF's type of its nodes


def foldable_batch_norm(
    model: NNCFNetwork, graph: NNCFGraph, node: NNCFNode, *, repeated: Collection[str]
) -> str | None:
    """
    Returns NNCF's name of the batch norm that alone reads a layer's output, if it can be folded.

    Not where that would round anything again, nor where a class of one's own computes something else with the
    parameters of a batch norm: such a one stays as it is.

    :param model: The model.
    :param graph: NNCF's graph of it.
    :param node: The layer.
    :param repeated: NNCF's names of the batch norms that are called more than once: these cannot.
    """
    following = graph.get_next_nodes(node)
    if len(following) != 1 or following[0].node_type != BATCH_NORM or following[0].layer_name in repeated:
        return None
    attributes, shape = node.layer_attributes, graph.get_output_edges(node)[0].tensor_shape
    if getattr(attributes, "transpose", False) and attributes.groups > 1:
        return None
    if isinstance(attributes, LinearLayerAttributes) and len(shape) > 2:
        return None  # the batch norm then normalizes another dimension than the layer's channels
    name = following[0].node_name
    return name if _is_foldable(model.nncf.get_containing_module(name), len(shape)) else None


def gain_and_shift(batch_norm: Any) -> tuple[Tensor, Tensor]:
    """Returns what a batch norm multiplies by and adds in evaluation, each of shape ``(C,)``."""
    gain = (batch_norm.running_var + batch_norm.eps).rsqrt()
    if batch_norm.weight is not None:
        gain = gain * batch_norm.weight
    shift = -batch_norm.running_mean * gain
    return gain, shift if batch_norm.bias is None else shift + batch_norm.bias


@torch.no_grad()
def make_identity(batch_norm: Any) -> None:
    """Lets a batch norm do nothing any more. It stays: NNCF hangs the next quantizer on its output."""
    batch_norm.running_mean.zero_()
    batch_norm.running_var.fill_(1.0 - batch_norm.eps)
    if batch_norm.weight is not None:
        batch_norm.weight.fill_(1.0)
    if batch_norm.bias is not None:
        batch_norm.bias.zero_()


@torch.no_grad()
def _is_foldable(batch_norm: Any, dimensions: int) -> bool:
    """Whether the module does the same with gain and shift in front of it, and none of its own."""
    if not isinstance(batch_norm, _BatchNorm) or batch_norm.running_mean is None:
        return False
    gain, shift = gain_and_shift(batch_norm)
    values = (batch_norm.running_mean, batch_norm.running_var, batch_norm.weight, batch_norm.bias)
    kept = [(value, value.clone()) for value in values if value is not None]
    x = torch.linspace(-3.0, 3.0, 2 * len(gain), dtype=gain.dtype, device=gain.device)
    x = x.reshape(2, len(gain), *[1] * (dimensions - 2))
    along_channels = (len(gain), *[1] * (dimensions - 2))
    moved = x * gain.reshape(along_channels) + shift.reshape(along_channels)
    try:
        with no_nncf_trace(), training_mode(batch_norm, False):
            expected = batch_norm(x)
            make_identity(batch_norm)
            found = batch_norm(moved)
    except Exception:  # noqa: BLE001  of whatever a class of one's own does
        return False
    finally:
        for value, before in kept:
            value.copy_(before)
    room = 1e-4 * (1.0 + float(moved.abs().max()))
    return found.shape == expected.shape and torch.allclose(found, expected, atol=room, equal_nan=True)
