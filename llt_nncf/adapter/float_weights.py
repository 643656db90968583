"""Weights that no quantizer covers, so that nobody takes them for quantized."""

from nncf.common.logging import nncf_logger
from nncf.torch.nncf_network import NNCFNetwork

from llt_nncf.adapter.layer_survey import LayerSurvey
from llt_nncf.errors import some_of

_MOST_NAMED = 8
# In names of parameters: what the algorithms have added, as quantizers, masks, a teacher.
_ADDED = {"_nncf", "pre_ops"}


def float_weights(model: NNCFNetwork, survey: LayerSurvey) -> dict[str, int]:
    """
    Returns the parameters of two and more dimensions that stay in float, with their numbers of elements.

    NNCF quantizes the weights of PyTorch's own convolutions and linear layers, where these are called as modules: not
    those that functions read (``F.linear(x, self.weight)``, ``nn.MultiheadAttention``), not those of recurrent layers,
    of classes that inherit from a layer, of parametrized layers, nor of layers in ``ignored_scopes``.

    :param model: The compressed model.
    :param survey: Its layers.
    """
    quantized = {id(model.nncf.get_containing_module(node.node_name).weight) for node in survey.nodes.values()}
    return {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and id(parameter) not in quantized and _ADDED.isdisjoint(name.split("."))
    }


def log_float_weights(model: NNCFNetwork, survey: LayerSurvey) -> None:
    """Says which weights stay in float, and how many they are, if any do."""
    found = float_weights(model, survey)
    if found:
        count = sum(found.values())
        share = count / (count + sum(layer.weight_count for layer in survey.table.layers))
        named = some_of([f"{name} ({size:,})" for name, size in found.items()], _MOST_NAMED)
        nncf_logger.info(f"llt_quantization: {share:.1%} of the weights stay in float, outside of the budget: {named}")
