"""
Freezing: every switchable quantizer becomes a constant of the policy's bits, batch norms are folded, biases rounded.

The result computes what integer kernels compute: weights are integers times a step size, and every bias of a layer
with quantized input is a multiple of input step x weight step.
"""

import copy
from collections.abc import Mapping

import torch
from nncf.torch.graph.transformations.commands import ExtraCompressionModuleType
from nncf.torch.nncf_network import NNCFNetwork
from torch import nn

from llt_nncf.adapter.batch_norms import make_identity
from llt_nncf.adapter.layer_fold import LayerFold
from llt_nncf.adapter.layer_fold import layer_folds
from llt_nncf.adapter.layer_survey import LayerSurvey
from llt_nncf.adapter.nncf_quantizer import NncfSwitchableQuantizer
from llt_nncf.adapter.parameter_masks import bake_masks
from llt_nncf.adapter.rounded_bias import exact_biases
from llt_nncf.adapter.teacher import without_teacher
from llt_nncf.errors import ExportError
from llt_nncf.errors import StageError
from llt_nncf.functional import quantize_to_int
from llt_nncf.functional import silence_dead_channels
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight


def copy_untrainable(model: NNCFNetwork) -> NNCFNetwork:
    """Copies a compressed model without its controller, which holds on to the training data, and without a teacher."""
    controller = model.nncf.compression_controller
    model.nncf.set_compression_controller(None)
    try:
        with without_teacher(model):
            return copy.deepcopy(model)
    finally:
        model.nncf.set_compression_controller(controller)


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
    storage = model.nncf.get_compression_modules_by_type(ExtraCompressionModuleType.EXTERNAL_QUANTIZER)
    if not all(isinstance(storage[key], NncfSwitchableQuantizer) for key in activation_keys.values()):
        msg = "The model is frozen already; strip it with do_copy=True to be able to do so again."
        raise StageError(msg)
    bake_masks(model)
    for fold in list(layer_folds(model, survey, activation_keys)):
        _freeze_layer(fold)
    for name, key in activation_keys.items():
        core = storage[key].core
        storage[key] = FrozenActivationQuantizer(
            core.step_size(), num_bits=core.num_bits, signed=core.signed, name=name
        )
    model.nncf._kd_loss_handler = None  # with the teacher, which is a whole model
    model.nncf.disable_dynamic_graph_building()


def _freeze_layer(fold: LayerFold) -> None:
    if fold.weight_op is None:
        msg = (
            f"{fold.name}: its weights are quantized together with another layer's; put one of the two into "
            "ignored_scopes."
        )
        raise ExportError(msg)
    core, module = fold.weight_quantizer, fold.module
    codes = quantize_to_int(
        module.weight, core.step_size(), num_bits=core.num_bits, signed=core.signed, narrow_range=core.narrow_range
    )
    codes, step_size, bias = fold.fold(codes)
    if bias is not None:
        rounded = fold.round_bias(bias, step_size)
        if fold.input_step is not None and not fold.has_grouped_steps:
            codes, step_size = silence_dead_channels(
                codes, step_size, bias, input_step=fold.input_step, channel_dim=fold.channel_dim
            )
        module.bias = nn.Parameter(rounded.clone(), requires_grad=False)
    exact_biases([fold])
    if fold.batch_norm is not None:
        make_identity(fold.batch_norm)
    fold.weight_op.op = FrozenWeight(codes, step_size, num_bits=core.num_bits, name=fold.name)
