"""A layer with the batch norm that is folded into it: its integer weights, their step sizes, and its bias."""

from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nncf.torch.graph.transformations.commands import ExtraCompressionModuleType
from nncf.torch.nncf_network import NNCFNetwork
from torch import Tensor

from llt_nncf.adapter.batch_norms import gain_and_shift
from llt_nncf.adapter.layer_survey import LayerSurvey
from llt_nncf.adapter.nncf_quantizer import NncfSwitchableQuantizer
from llt_nncf.adapter.parameter_masks import masked_bias
from llt_nncf.functional import fold_batch_norm
from llt_nncf.functional import round_bias_to_grid
from llt_nncf.functional import steps_with_room
from llt_nncf.quantizers import SwitchableQuantizer


@dataclass(frozen=True)
class LayerFold:
    """
    What one frozen layer is made of.

    :param name: Name of the layer.
    :param module: The layer.
    :param batch_norm: The batch norm behind it, or ``None``.
    :param weight_op: NNCF's operation on the layer's weight; ``None`` if they are quantized with another layer's.
    :param input_quantizer: What quantizes its input; ``None`` if there is no one grid for its bias.
    """

    name: str
    module: Any
    batch_norm: Any
    weight_op: Any
    input_quantizer: SwitchableQuantizer | None

    @property
    def weight_quantizer(self) -> SwitchableQuantizer:
        """The quantizer of the layer's weights."""
        return self.weight_op.op.core

    @property
    def bias_owner(self) -> Any:
        """The module whose bias is the layer's when it is folded."""
        return self.module if self.batch_norm is None else self.batch_norm

    @property
    def channel_dim(self) -> int:
        """The output-channel dimension of the weights."""
        return 1 if getattr(self.module, "transposed", False) else 0

    @property
    def has_grouped_steps(self) -> bool:
        """Whether the same step sizes serve all groups: a transposed convolution's channels are those of one group."""
        return self.channel_dim == 1 and self.module.groups > 1

    @property
    def input_step(self) -> Tensor | None:
        """Step size of the input, no dimension."""
        return None if self.input_quantizer is None else self.input_quantizer.step_size().reshape(())

    def fold(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """
        Folds the batch norm, by its running statistics.

        :param codes: Integer weights, or anything of as many dimensions to spare the work on them.
        :return: ``(codes, step_size, bias)``.
        """
        step_size, norm = self.weight_quantizer.step_size(), self.batch_norm
        if norm is None:
            return codes, step_size, self.module.bias
        gain, shift = gain_and_shift(norm)
        bias = masked_bias(self.module)
        return fold_batch_norm(codes, step_size, bias, gain=gain, shift=shift, channel_dim=self.channel_dim)

    def round_bias(self, bias: Tensor, step_size: Tensor) -> Tensor:
        """
        Rounds the folded bias to the grid of the int32 accumulator, if there is one.

        :param bias: As ``fold`` returned it, like ``step_size``.
        :param step_size: Of the folded weights.
        """
        if self.input_step is None:
            return bias
        steps = step_size.reshape(-1)
        if self.has_grouped_steps:
            steps = steps.repeat(bias.numel() // steps.numel())
        else:
            steps = steps_with_room(bias, steps, input_step=self.input_step)
        return round_bias_to_grid(bias, self.input_step * steps)


def layer_folds(model: NNCFNetwork, survey: LayerSurvey, activation_keys: Mapping[str, str]) -> Iterator[LayerFold]:
    """
    Yields every layer of a compressed model.

    :param model: The compressed model, not frozen yet.
    :param survey: Its layers.
    :param activation_keys: Name of each activation quantizer to its key in NNCF's storage of external quantizers.
    """
    storage = model.nncf.get_compression_modules_by_type(ExtraCompressionModuleType.EXTERNAL_QUANTIZER)
    for layer in survey.table.layers:
        node = survey.nodes[layer.name]
        module = model.nncf.get_containing_module(node.node_name)
        weight_op = next((op for op in module.pre_ops.values() if isinstance(op.op, NncfSwitchableQuantizer)), None)
        has_one_grid = layer.name not in survey.with_several_inputs
        key = activation_keys.get(layer.activation_group) if has_one_grid else None
        input_quantizer = None if key is None else storage[key].core
        name = survey.batch_norms.get(layer.name)
        batch_norm = None if name is None else model.nncf.get_containing_module(name)
        yield LayerFold(layer.name, module, batch_norm, weight_op, input_quantizer)
