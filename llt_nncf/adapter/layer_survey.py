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
from torch import nn

from llt_nncf.adapter.batch_norms import BATCH_NORM
from llt_nncf.adapter.batch_norms import foldable_batch_norm
from llt_nncf.artifacts import FLOAT_INPUT
from llt_nncf.artifacts import MIXED_INPUT
from llt_nncf.artifacts import UNSEARCHED_BITS
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import StageError


@dataclass(frozen=True)
class LayerSurvey:
    """
    The layer table with the way back to NNCF.

    :param table: The layers.
    :param weight_points: Layer name to the id of its weight quantization point.
    :param activation_points: Name of each activation quantizer to the id of its first quantization point.
    :param nodes: Layer name to the node in NNCF's graph.
    :param model_inputs: Names of the activation quantizers of the model's inputs.
    :param with_several_inputs: Names of the layers whose calls have inputs of different grids.
    :param batch_norms: Layer name to the batch norm that is folded into it, by NNCF's name.
    """

    table: LayerTable
    weight_points: dict[str, int]
    activation_points: dict[str, int]
    nodes: dict[str, NNCFNode]
    model_inputs: frozenset[str]
    with_several_inputs: frozenset[str]
    batch_norms: dict[str, str]


def survey_layers(setup: PTQuantizerSetup, model: NNCFNetwork) -> LayerSurvey:
    """
    Builds the layer table.

    :param setup: A setup with ``SwitchableQuantizerSpec``.
    :param model: The model that it was made for.
    :raises StageError: If a layer's weight is no parameter, or nothing is seen to read its output.
    """
    graph = model.nncf.get_original_graph()
    points = setup.quantization_points
    quantizers = activation_quantizers(setup)
    names = _readable_names([_point_name(points[ids[0]]) for ids in quantizers])
    by_name = dict(zip(names, quantizers, strict=True))
    feeding = {
        node_name: (name, points[ids[0]].qspec.candidate_bits)
        for name, ids in by_name.items()
        for node_name in fed_nodes(setup, ids)
    }
    feeding |= {name: (f"{name}{MIXED_INPUT}", (UNSEARCHED_BITS,)) for name in mixed_nodes(setup)}

    calls = layer_nodes(graph)
    row_points, nodes = _quantized_layers(setup, model, calls)
    macs = _macs_by_layer(graph, calls, nodes)
    rows = []
    for layer_name, node in nodes.items():
        # A float input (quantize_inputs: false, an ignored scope) is counted at 8 bits and never searched.
        group, activation_bits = feeding.get(node.node_name, (f"{layer_name}{FLOAT_INPUT}", (UNSEARCHED_BITS,)))
        row = Layer(
            name=layer_name,
            macs=macs[node.layer_name],
            weight_count=_weight_count(node),
            activation_group=group,
            weight_bits=points[row_points[layer_name]].qspec.candidate_bits,
            activation_bits=activation_bits,
            depthwise=_is_depthwise(node),
        )
        rows.append(row)
    groups = {row.activation_group for row in rows}
    unsearched = {name: points[ids[0]].qspec.candidate_bits[0] for name, ids in by_name.items() if name not in groups}
    input_nodes = {node.node_name for node in graph.get_input_nodes()}
    called_again, norms_again = repeated_layers(calls), repeated_layers(graph.get_nodes_by_types([BATCH_NORM]))
    repeated = {name for name, node in nodes.items() if node.layer_name in called_again}
    behind = {
        name: foldable_batch_norm(model, graph, node, repeated=norms_again)
        for name, node in nodes.items()
        if name not in repeated
    }
    return LayerSurvey(
        table=LayerTable(tuple(rows), unsearched),
        weight_points=row_points,
        activation_points={name: ids[0] for name, ids in by_name.items()},
        nodes=nodes,
        model_inputs=frozenset(
            name for name, ids in by_name.items() if {_node_name(points[i]) for i in ids} <= input_nodes
        ),
        with_several_inputs=frozenset(
            name
            for name in repeated
            if len({feeding.get(call.node_name) for call in calls if call.layer_name == nodes[name].layer_name}) > 1
        ),
        batch_norms={name: norm for name, norm in behind.items() if norm is not None},
    )


def _quantized_layers(
    setup: PTQuantizerSetup, model: NNCFNetwork, calls: list[NNCFNode]
) -> tuple[dict[str, int], dict[str, NNCFNode]]:
    """The weight quantization point and the first call of every layer with quantized weights, by its name."""
    module_names = {id(module): name for name, module in model.named_modules()}
    weighted = {_node_name(point): point_id for point_id, point in weight_points(setup).items()}
    row_points: dict[str, int] = {}
    nodes: dict[str, NNCFNode] = {}
    for node in calls:
        if node.node_name not in weighted:
            continue
        module = model.nncf.get_containing_module(node.node_name)
        layer_name = module_names[id(module)]
        if not isinstance(module.weight, nn.Parameter):
            msg = (
                f"{layer_name}: its weight is no parameter, but computed before every call, as by "
                "torch.nn.utils.weight_norm: undo that first (torch.nn.utils.remove_weight_norm)."
            )
            raise StageError(msg)
        row_points.setdefault(layer_name, weighted[node.node_name])
        nodes.setdefault(layer_name, node)
    return row_points, nodes


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


def repeated_layers(layers: list[NNCFNode]) -> set[str]:
    """
    NNCF's names of the layers that are called more than once.

    Its own ``is_shared`` also counts a module's other operations, such as the padding of ``padding_mode="reflect"``, or
    an activation in the class of a batch norm.
    """
    return {name for name, count in Counter(node.layer_name for node in layers).items() if count > 1}


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


def _macs_by_layer(graph: NNCFGraph, calls: list[NNCFNode], nodes: dict[str, NNCFNode]) -> dict[str, int]:
    """Multiply-accumulates for one sample, all calls together; by NNCF's names of the layers in ``nodes``."""
    names = {node.layer_name: name for name, node in nodes.items()}
    macs: Counter[str] = Counter()
    for call in calls:
        if call.layer_name in names:
            macs[call.layer_name] += _macs(graph, call, names[call.layer_name])
    # The batch is divided out. What the first dimensions of the layers hold besides (windows, time steps) is counted;
    # where the inputs do not agree in theirs, or a layer's count is no multiple of it, it is no batch.
    first = {tuple(edge.tensor_shape[:1]) for node in graph.get_input_nodes() for edge in graph.get_output_edges(node)}
    batch = math.prod(first.pop()) if len(first) == 1 else 1
    if math.gcd(batch, *macs.values()) != batch:
        return macs
    return {name: count // batch for name, count in macs.items()}


def _macs(graph: NNCFGraph, node: NNCFNode, layer_name: str) -> int:
    """Those of one call for the whole batch: every output (transposed: input) element meets one filter."""
    attributes = node.layer_attributes
    transposed = getattr(attributes, "transpose", False)
    edges = graph.get_input_edges(node) if transposed else graph.get_output_edges(node)
    if not edges:
        msg = (
            f"{layer_name}: NNCF does not see what reads its output: it is for the training only, or for an operation "
            f"that NNCF does not trace. Put {node.node_name!r} into ignored_scopes."
        )
        raise StageError(msg)
    elements = math.prod(edges[0].tensor_shape)
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


def _is_depthwise(node: NNCFNode) -> bool:
    attributes = node.layer_attributes
    return isinstance(attributes, ConvolutionLayerAttributes) and attributes.groups == attributes.in_channels > 1


def _node_name(point: PTQuantizationPoint) -> str:
    return point.target_point.target_node_name


def _point_name(point: PTQuantizationPoint) -> str:
    port = point.target_point.input_port_id
    return _node_name(point) + ("" if port is None else f"|INPUT{port}")


def _readable_names(names: list[str]) -> list[str]:
    """``Net/Sequential[layer1]/ReLU[relu]/relu__0`` becomes ``layer1.relu/relu__0``; kept where that clashes."""
    short = []
    for name in names:
        *scopes, operation = name.strip("/").split("/")
        path = ".".join(found.group(1) for scope in scopes if (found := re.search(r"\[(.+)\]", scope)))
        short.append(f"{path}/{operation}" if path else operation)
    counts = Counter(short)
    return [readable if counts[readable] == 1 else name for readable, name in zip(short, names, strict=True)]
