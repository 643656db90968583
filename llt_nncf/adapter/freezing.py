"""
Freezing: every switchable quantizer becomes a constant of the policy's bits, batch norms are folded, biases rounded.

The result computes what integer kernels compute: weights are integers times a step size, and every bias of a layer
with quantized input is a multiple of input step x weight step.
"""

from collections.abc import Mapping
from typing import Any

import torch
from nncf.common.graph import NNCFGraph
from nncf.common.graph import NNCFNode
from nncf.common.graph.layer_attributes import LinearLayerAttributes
from nncf.torch.graph.transformations.commands import ExtraCompressionModuleType
from nncf.torch.nncf_network import NNCFNetwork
from torch import Tensor
from torch import nn

from llt_nncf.adapter.layer_survey import LayerSurvey
from llt_nncf.adapter.nncf_quantizer import NncfSwitchableQuantizer
from llt_nncf.errors import ExportError
from llt_nncf.errors import StageError
from llt_nncf.functional import fold_batch_norm
from llt_nncf.functional import quantize_to_int
from llt_nncf.functional import round_bias_to_grid
from llt_nncf.functional import silence_dead_channels
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight


@torch.no_grad()
def freeze(model: NNCFNetwork, survey: LayerSurvey, activation_keys: Mapping[str, str]) -> None:
    """
    Freezes ``model`` in place, at the bit-widths that its quantizers have now.

    :param model: The compressed model, in evaluation mode afterwards.
    :param survey: Its layers.
    :param activation_keys: Name of each activation quantizer to its key in NNCF's storage of external quantizers.
    :raises ExportError: If a layer's weight quantizer is shared with another layer.
    :raises StageError: If the model is frozen already.
    """
    model.eval()
    graph = model.nncf.get_original_graph()
    storage = model.nncf.get_compression_modules_by_type(ExtraCompressionModuleType.EXTERNAL_QUANTIZER)
    step_sizes: dict[str, Tensor] = {}
    for name, key in activation_keys.items():
        if not isinstance(storage[key], NncfSwitchableQuantizer):
            msg = "The model is frozen already; strip it with do_copy=True to be able to do so again."
            raise StageError(msg)
        core = storage[key].core
        step_sizes[name] = core.step_size().detach().reshape(())
        storage[key] = FrozenActivationQuantizer(
            step_sizes[name], num_bits=core.num_bits, signed=core.signed, name=name
        )
    for layer in survey.table.layers:
        node = survey.nodes[layer.name]
        module = model.nncf.get_containing_module(node.node_name)
        batch_norm = _batch_norm_behind(model, graph, node)
        # A layer that is called twice has two inputs, and its bias no common grid.
        input_step = None if node.is_shared() else step_sizes.get(layer.activation_group)
        _freeze_layer(layer.name, module, batch_norm, input_step)


def _freeze_layer(name: str, module: Any, batch_norm: Any, input_step: Tensor | None) -> None:
    pre_op = next((op for op in module.pre_ops.values() if isinstance(op.op, NncfSwitchableQuantizer)), None)
    if pre_op is None:
        msg = (
            f"{name}: its weights are quantized together with another layer's; put one of the two into ignored_scopes."
        )
        raise ExportError(msg)
    core = pre_op.op.core
    step_size = core.step_size().detach()
    codes = quantize_to_int(
        module.weight, step_size, num_bits=core.num_bits, signed=core.signed, narrow_range=core.narrow_range
    )
    bias = module.bias
    channel_dim = 1 if getattr(module, "transposed", False) else 0
    # Its dimension 1 is the channels of one group; the same step sizes serve all groups.
    is_grouped_transpose = channel_dim == 1 and module.groups > 1
    if batch_norm is not None:
        gain = (batch_norm.running_var + batch_norm.eps).rsqrt()
        if batch_norm.affine:
            gain = gain * batch_norm.weight
        shift = -batch_norm.running_mean * gain
        if batch_norm.affine:
            shift = shift + batch_norm.bias
        codes, step_size, bias = fold_batch_norm(
            codes, step_size, bias, gain=gain, shift=shift, channel_dim=channel_dim
        )
        _make_identity(batch_norm)
    if bias is not None:
        if input_step is not None:
            if not is_grouped_transpose:
                codes, step_size = silence_dead_channels(
                    codes, step_size, bias, input_step=input_step, channel_dim=channel_dim
                )
            grid = input_step * step_size.reshape(-1)
            bias = round_bias_to_grid(bias, grid.repeat(bias.numel() // grid.numel()))
        module.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    pre_op.op = FrozenWeight(codes, step_size, num_bits=core.num_bits, name=name)


def _batch_norm_behind(model: NNCFNetwork, graph: NNCFGraph, node: NNCFNode) -> Any:
    """The batch norm that alone reads the layer's output, if it can be folded without rounding anything again."""
    following = graph.get_next_nodes(node)
    if len(following) != 1 or following[0].node_type != "batch_norm" or node.is_shared() or following[0].is_shared():
        return None
    attributes = node.layer_attributes
    if getattr(attributes, "transpose", False) and attributes.groups > 1:
        return None
    if isinstance(attributes, LinearLayerAttributes) and len(graph.get_output_edges(node)[0].tensor_shape) > 2:
        return None  # the batch norm then normalizes another dimension than the layer's channels
    batch_norm = model.nncf.get_containing_module(following[0].node_name)
    return batch_norm if batch_norm.track_running_stats else None


def _make_identity(batch_norm: Any) -> None:
    # The module stays: NNCF hangs the next quantizer on its output. The export drops it.
    batch_norm.running_mean.zero_()
    batch_norm.running_var.fill_(1.0 - batch_norm.eps)
    if batch_norm.affine:
        batch_norm.weight.fill_(1.0)
        batch_norm.bias.zero_()
