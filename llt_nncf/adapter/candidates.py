"""
Which bit-widths every quantizer may have: by the config's groups and scopes, the layer's place, and the device.

The first and the last layer are fixed; so is the input, not the weights, of whatever shares it with one of them.
Activation quantizers that feed no layer (residual adds, pooling), or a layer together with others, stay at 8 bits. A
layer that is called more than once is fixed as well: it stands for several layers of a network. What
``scope_overrides`` says goes before all that.
"""

from collections.abc import Iterable
from collections.abc import Sequence

from nncf.common.graph import NNCFGraph
from nncf.common.graph import NNCFNode
from nncf.common.graph.transformations.commands import TargetType
from nncf.common.graph.utils import get_first_nodes_of_type
from nncf.common.hardware.config import HWConfig
from nncf.torch.graph.transformations.commands import PTTargetPoint
from nncf.torch.quantization.layers import PTQuantizerSetup

from llt_nncf.adapter.layer_survey import activation_quantizers
from llt_nncf.adapter.layer_survey import fed_nodes
from llt_nncf.adapter.layer_survey import layer_nodes
from llt_nncf.adapter.layer_survey import mixed_nodes
from llt_nncf.adapter.layer_survey import repeated_layers
from llt_nncf.adapter.layer_survey import weight_points
from llt_nncf.adapter.nncf_quantizer import SwitchableQuantizerSpec
from llt_nncf.adapter.scopes import rule_for
from llt_nncf.artifacts import UNSEARCHED_BITS
from llt_nncf.config import LltConfig
from llt_nncf.config import raise_faults
from llt_nncf.errors import StageError

# Devices on which NNCF takes 8-bit weights for ones that may saturate.
_OVERFLOW_DEVICES = ("ANY", "CPU")


def assign_candidates(setup: PTQuantizerSetup, graph: NNCFGraph, config: LltConfig, hardware: HWConfig | None) -> None:
    """
    Replaces every quantizer spec of ``setup`` by one with candidate bit-widths, in place.

    Tables of embeddings stay in float: what they put out is quantized instead, if a quantized operation reads it.

    :param setup: NNCF's quantizer setup.
    :param graph: NNCF's graph of the original model.
    :param config: The section's own values.
    :param hardware: NNCF's configuration of the device; only that of the NPU restricts the candidates.
    :raises StageError: If there is no layer, or no input that NNCF follows.
    :raises ConfigError: If quantizers are left without candidates, or a layer that is called more than once is to be
        searched; names all.
    """
    layers = {node.node_name for node in layer_nodes(graph)}
    for point_id, point in weight_points(setup).items():
        if point.target_point.target_node_name not in layers:
            _quantize_behind_table(setup, point_id)
    for point_id, bits in Candidates(setup, graph, config, hardware).by_point().items():
        point = setup.quantization_points[point_id]
        # NNCF's hardware config prefers a step size per channel in front of depthwise convolutions; no engine has an
        # integer kernel for that, and the indicator of a quantizer is one number.
        changes = {} if point.is_weight_quantization_point() else {"scale_shape": (1,)}
        point.qspec = SwitchableQuantizerSpec.extend(point.qspec, bits, **changes)


class Candidates:
    """
    The candidate bit-widths of a setup, as ``assign_candidates`` takes them.

    :raises StageError: If there is no layer, or no input that NNCF follows.
    """

    def __init__(self, setup: PTQuantizerSetup, graph: NNCFGraph, config: LltConfig, hardware: HWConfig | None):
        if not graph.get_input_nodes():
            msg = (
                "NNCF found no input of the model: it follows tensors that are arguments of forward, not those inside "
                "a dict or a list. Take each as an argument, by position or keyword, for example in a module around it."
            )
            raise StageError(msg)
        # What a function computes with weights of its own (F.conv2d(x, w)) counts as a layer, but its weights stay
        # floats. Of the calls of one layer only the first has a quantization point.
        all_layers = layer_nodes(graph)
        weight_nodes = {point.target_point.target_node_name for point in weight_points(setup).values()}
        quantized = {node.layer_name for node in all_layers if node.node_name in weight_nodes}
        layers = [node for node in all_layers if node.layer_name in quantized]
        if not layers:
            msg = (
                "No convolution and no linear layer is left to quantize: either the model has none that NNCF knows, or "
                "ignored_scopes and target_scopes, of compression or of compression.weights, leave out all; mend these."
            )
            raise StageError(msg)
        self._setup, self._graph, self._config = setup, graph, config
        self._layers = {node.node_name for node in layers}
        repeated = repeated_layers(all_layers)
        self._called_again = {node.node_name for node in layers if node.layer_name in repeated}
        ends = {all_layers[0].layer_name, all_layers[-1].layer_name}
        self._fixed = {node.node_name for node in layers if node.layer_name in ends} | self._called_again
        self._legal = None
        if config.target_device == "NPU" and hardware is not None:
            self._legal = {kind: hardware.get_metatype_vs_quantizer_configs_map(kind) for kind in (True, False)}
        self._overflowing = self._overflowing_nodes(layers)
        self._faults: list[str] = []

    def by_point(self) -> dict[int, tuple[int, ...]]:
        """
        Returns the candidates of every quantization point, by its id, descending.

        :raises ConfigError: As ``assign_candidates``.
        """
        result = {}
        mixed = mixed_nodes(self._setup)
        for point_id, point in weight_points(self._setup).items():
            result[point_id] = self._of_weight(point.target_point.target_node_name)
        for point_ids in activation_quantizers(self._setup):
            fed = sorted(set(fed_nodes(self._setup, point_ids)))
            layers = [name for name in fed if name in self._layers and name not in mixed]
            bits = self._of_activation(fed, layers)
            result |= dict.fromkeys(point_ids, bits)
        raise_faults(self._faults)
        return result

    def _of_weight(self, name: str) -> tuple[int, ...]:
        config = self._config
        given = rule_for(config.weights, name).bits
        if given is not None:
            self._refuse_search_of_calls(given, [name], "weights")
            bits = given
        elif name in self._fixed:
            bits = (config.fixed_bits,)
        else:
            bits = config.weights.common.bits or config.candidate_bits
        bits = self._legal_ones(bits, [name], f"the weights of {name!r}", for_weights=True)
        if name in self._overflowing:
            bits = tuple(sorted({min(num_bits, 7) for num_bits in bits}, reverse=True))
        return bits

    def _of_activation(self, fed: Sequence[str], layers: Sequence[str]) -> tuple[int, ...]:
        config = self._config
        given = self._asked_of_all(fed)
        if given is not None and (layers or len(given) == 1):
            self._refuse_search_of_calls(given, layers, "activations")
            bits = given
        elif not layers:
            bits = (UNSEARCHED_BITS,)
        elif self._fixed.isdisjoint(layers):
            bits = config.activations.common.bits or config.candidate_bits
        else:
            bits = (config.fixed_bits,)
        if config.activation_bits is not None:
            bits = (config.activation_bits,)
        return self._legal_ones(bits, fed, f"the input of {', '.join(map(repr, fed))}", for_weights=False)

    def _asked_of_all(self, fed: Sequence[str]) -> tuple[int, ...] | None:
        """What scopes ask of one quantizer: the bits that all of them have."""
        asked = {name: bits for name in fed if (bits := rule_for(self._config.activations, name).bits)}
        if not asked:
            return None
        common = set.intersection(*map(set, asked.values()))
        if not common:
            each = "; ".join(f"{list(bits)} for {name!r}" for name, bits in asked.items())
            self._faults.append(
                f"compression.scope_overrides.activations: one quantizer serves several operations, and no bit-width "
                f"is among all that they are given: {each}. Give them one in common."
            )
            return (UNSEARCHED_BITS,)
        return tuple(sorted(common, reverse=True))

    def _refuse_search_of_calls(self, bits: Sequence[int], names: Iterable[str], group: str) -> None:
        for name in names if len(bits) > 1 else ():
            if name in self._called_again:
                self._faults.append(
                    f"compression.scope_overrides.{group}: {name!r} is called more than once, so its bits are not "
                    f"searched; give one bit-width instead of {list(bits)}."
                )

    def _legal_ones(
        self, bits: tuple[int, ...], names: Sequence[str], where: str, *, for_weights: bool
    ) -> tuple[int, ...]:
        """Those of ``bits`` that the device has for all operations; any granularity, as per tensor is one of them."""
        if self._legal is None:
            return bits
        legal = set(range(2, 9))
        for name in names:
            configs = self._legal[for_weights].get(self._graph.get_node_by_name(name).metatype)
            if configs:
                legal &= {config.num_bits for config in configs}
        left = tuple(num_bits for num_bits in bits if num_bits in legal)
        if not left:
            self._faults.append(
                f"target_device={self._config.target_device!r}: {where} can have {sorted(legal, reverse=True)} bits, "
                f"and was to have {list(bits)}; change compression.candidate_bits, compression.fixed_bits or the bits "
                "in compression.scope_overrides."
            )
        return left or bits

    def _overflowing_nodes(self, layers: Iterable[NNCFNode]) -> set[str]:
        """Nodes whose 8-bit weights become 7-bit ones: the same grid as NNCF's half range."""
        fix = self._config.overflow_fix
        if fix == "disable" or self._config.target_device not in _OVERFLOW_DEVICES:
            return set()
        if fix == "first_layer_only":
            return {node.node_name for node in get_first_nodes_of_type(self._graph, ["conv2d", "conv3d"])}
        return {node.node_name for node in layers}


def _quantize_behind_table(setup: PTQuantizerSetup, point_id: int) -> None:
    # A look-up has no MACs and no integer kernel. NNCF takes the table's quantizer for that of the operations behind.
    point = setup.quantization_points[point_id]
    name = point.target_point.target_node_name
    readers = [reader for reader in point.directly_quantized_operator_node_names if reader != name]
    if not readers:
        _drop_point(setup, point_id)
        return
    point.target_point = PTTargetPoint(TargetType.OPERATOR_POST_HOOK, name)
    point.directly_quantized_operator_node_names = readers
    point.qspec.is_quantized_on_export = point.qspec.narrow_range = False


def _drop_point(setup: PTQuantizerSetup, point_id: int) -> None:
    del setup.quantization_points[point_id]
    for groups in (setup.unified_scale_groups, setup.shared_input_operation_set_groups):
        for group_id, ids in list(groups.items()):
            groups[group_id] = ids - {point_id}
            if not groups[group_id]:
                del groups[group_id]
