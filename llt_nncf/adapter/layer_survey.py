"""Reads the layers out of NNCF's graph and quantizer setup: what feeds them, and what they cost."""

import math
import re
from collections import Counter
from dataclasses import dataclass

from nncf.common.graph import NNCFGraph
from nncf.common.graph import NNCFNode
from nncf.common.graph.layer_attributes import ConvolutionLayerAttributes
from nncf.common.graph.layer_attributes import LinearLayerAttributes
from nncf.torch.nncf_network import NNCFNetwork
from nncf.torch.quantization.layers import PTQuantizationPoint
from nncf.torch.quantization.layers import PTQuantizerSetup

from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ConfigError

_UNSEARCHED_BITS = 8


@dataclass(frozen=True)
class LayerSurvey:
    """
    The layer table with the way back to NNCF.

    :param table: The layers.
    :param weight_points: Layer name to the id of its weight quantization point.
    :param activation_points: Name of each activation quantizer to the id of its first quantization point.
    :param nodes: Layer name to the node in NNCF's graph.
    :param model_inputs: Names of the activation quantizers of the model's inputs.
    """

    table: LayerTable
    weight_points: dict[str, int]
    activation_points: dict[str, int]
    nodes: dict[str, NNCFNode]
    model_inputs: frozenset[str]


def survey_layers(setup: PTQuantizerSetup, model: NNCFNetwork) -> LayerSurvey:
    """
    Builds the layer table.

    :param setup: A setup with ``SwitchableQuantizerSpec``.
    :param model: The model that it was made for.
    :raises ConfigError: If the config's scopes leave no layer.
    """
    graph = model.nncf.get_original_graph()
    module_names = {id(module): name for name, module in model.named_modules()}
    quantizers = activation_quantizers(setup)
    names = _readable_names([_point_name(setup.quantization_points[ids[0]]) for ids in quantizers])
    feeding = {
        node_name: (name, setup.quantization_points[ids[0]].qspec.candidate_bits)
        for name, ids in zip(names, quantizers, strict=True)
        for node_name in fed_nodes(setup, ids)
    }
    feeding |= {name: (f"{name} (mixed input)", (_UNSEARCHED_BITS,)) for name in mixed_nodes(setup)}
    weighted = {point.target_point.target_node_name: point_id for point_id, point in weight_points(setup).items()}

    rows: dict[str, Layer] = {}
    row_points: dict[str, int] = {}
    nodes: dict[str, NNCFNode] = {}
    for node in layer_nodes(graph):
        point_id = weighted.get(node.node_name)
        if point_id is None:
            continue
        layer_name = module_names[id(model.nncf.get_containing_module(node.node_name))]
        if layer_name in rows:
            continue
        # A float input (quantize_inputs: false, an ignored scope) is counted at 8 bits and never searched.
        group, activation_bits = feeding.get(node.node_name, (f"{layer_name} (float input)", (_UNSEARCHED_BITS,)))
        rows[layer_name] = Layer(
            name=layer_name,
            macs=sum(_macs(graph, call) for call in layer_nodes(graph) if call.layer_name == node.layer_name),
            weight_count=_weight_count(node),
            activation_group=group,
            weight_bits=setup.quantization_points[point_id].qspec.candidate_bits,
            activation_bits=activation_bits,
        )
        row_points[layer_name] = point_id
        nodes[layer_name] = node
    groups = {row.activation_group for row in rows.values()}
    activation_points = {name: ids[0] for name, ids in zip(names, quantizers, strict=True)}
    unsearched = {
        name: setup.quantization_points[point_id].qspec.candidate_bits[0]
        for name, point_id in activation_points.items()
        if name not in groups
    }
    input_nodes = {node.node_name for node in graph.get_input_nodes()}
    points = setup.quantization_points
    model_inputs = frozenset(
        name
        for name, ids in zip(names, quantizers, strict=True)
        if {points[point_id].target_point.target_node_name for point_id in ids} <= input_nodes
    )
    if not rows:
        msg = "compression.ignored_scopes, compression.target_scopes: they leave no layer to quantize."
        raise ConfigError(msg)
    table = LayerTable(tuple(rows.values()), unsearched)
    return LayerSurvey(table, row_points, activation_points, nodes, model_inputs)


def weighted_nodes(model: NNCFNetwork) -> dict[str, tuple[str, tuple[int, ...]]]:
    """
    Returns every convolution and linear layer that the model calls, whether it is quantized or not.

    :param model: The model.
    :return: Name of the node in NNCF's graph to the layer's name and the shape of its weights.
    """
    module_names = {id(module): name for name, module in model.named_modules()}
    modules = {
        node.node_name: model.nncf.get_containing_module(node.node_name)
        for node in layer_nodes(model.nncf.get_original_graph())
    }
    return {
        name: (module_names[id(module)], tuple(module.weight.shape))
        for name, module in modules.items()
        if hasattr(module, "weight")  # a function called on a tensor has no layer of its own
    }


def layer_nodes(graph: NNCFGraph) -> list[NNCFNode]:
    """Convolutions and linear layers in the order of the forward pass."""
    kinds = (ConvolutionLayerAttributes, LinearLayerAttributes)
    nodes = [node for node in graph.get_all_nodes() if isinstance(node.layer_attributes, kinds)]
    return sorted(nodes, key=lambda node: node.node_id)


def weight_points(setup: PTQuantizerSetup) -> dict[int, PTQuantizationPoint]:
    """The weight quantization points by their ids."""
    return {i: point for i, point in setup.quantization_points.items() if point.is_weight_quantization_point()}


def activation_quantizers(setup: PTQuantizerSetup) -> list[list[int]]:
    """The activation quantization points, those of one quantizer (unified scales) together."""
    unified = [sorted(ids) for ids in setup.unified_scale_groups.values()]
    grouped = {point_id for ids in unified for point_id in ids}
    points = setup.quantization_points
    single = [[i] for i, point in points.items() if point.is_activation_quantization_point() and i not in grouped]
    return [ids for ids in unified if points[ids[0]].is_activation_quantization_point()] + single


def fed_nodes(setup: PTQuantizerSetup, point_ids: list[int]) -> list[str]:
    """The operations that read what the points of one quantizer put out."""
    return [name for i in point_ids for name in setup.quantization_points[i].directly_quantized_operator_node_names]


def mixed_nodes(setup: PTQuantizerSetup) -> set[str]:
    """The operations that several quantizers feed (a concatenation without unified scales): no one grid is theirs."""
    fed = Counter(name for ids in activation_quantizers(setup) for name in set(fed_nodes(setup, ids)))
    return {name for name, count in fed.items() if count > 1}


def _macs(graph: NNCFGraph, node: NNCFNode) -> int:
    """Multiply-accumulates of one call for one sample: every output (transposed: input) element meets one filter."""
    attributes = node.layer_attributes
    transposed = getattr(attributes, "transpose", False)
    edges = graph.get_input_edges(node) if transposed else graph.get_output_edges(node)
    # The first dimension may hold more than the batch (windows, time steps): it is counted, the batch divided out.
    inputs = [edge for source in graph.get_input_nodes() for edge in graph.get_output_edges(source)]
    elements = math.prod(edges[0].tensor_shape) // inputs[0].tensor_shape[0]
    is_linear = isinstance(attributes, LinearLayerAttributes)
    channels = (
        attributes.out_features if is_linear else (attributes.in_channels if transposed else attributes.out_channels)
    )
    return elements * _weight_count(node) // channels


def _weight_count(node: NNCFNode) -> int:
    attributes = node.layer_attributes
    if isinstance(attributes, LinearLayerAttributes):
        return attributes.in_features * attributes.out_features
    return attributes.in_channels * attributes.out_channels // attributes.groups * math.prod(attributes.kernel_size)


def _point_name(point: PTQuantizationPoint) -> str:
    target = point.target_point
    suffix = "" if target.input_port_id is None else f"|INPUT{target.input_port_id}"
    return target.target_node_name + suffix


def _readable_names(names: list[str]) -> list[str]:
    """``Net/Sequential[layer1]/ReLU[relu]/relu__0`` becomes ``layer1.relu/relu__0``; kept where that clashes."""
    short = []
    for name in names:
        *scopes, operation = name.strip("/").split("/")
        path = ".".join(found.group(1) for scope in scopes if (found := re.search(r"\[(.+)\]", scope)))
        short.append(f"{path}/{operation}" if path else operation)
    counts = Counter(short)
    return [readable if counts[readable] == 1 else name for readable, name in zip(short, names, strict=True)]
