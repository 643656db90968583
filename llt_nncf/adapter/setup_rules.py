"""What the config asks of NNCF's quantizer setup before data is looked at: shared quantizers, signs, granularity."""

from collections.abc import Sequence

from nncf.common.graph import NNCFGraph
from nncf.common.quantization.quantizer_setup import SingleConfigQuantizerSetup

from llt_nncf.adapter.layer_survey import layer_nodes
from llt_nncf.adapter.layer_survey import repeated_layers
from llt_nncf.adapter.scopes import rule_for
from llt_nncf.adapter.scopes import served_nodes
from llt_nncf.config import GroupRules
from llt_nncf.config import raise_faults


def unify_scales(setup: SingleConfigQuantizerSetup, groups: Sequence[Sequence[str]]) -> None:
    """
    Gives the inputs of several operations one quantizer, in place, as ``unified_scale_ops`` asks.

    NNCF's solver is not asked to, since it passes over groups of two.

    :param setup: NNCF's quantizer setup.
    :param groups: Names of the operations of each group.
    :raises ConfigError: If a quantizer belongs to several groups.
    """
    owner: dict[int, int] = {}
    faults = []
    for index, names in enumerate(groups):
        ids = {i for i, point in setup.quantization_points.items() if set(served_nodes(point)) & set(names)}
        ids = _taken_from_groups(setup, ids)
        if taken := {owner[i] for i in ids if i in owner}:
            faults.append(
                f"compression.activations.unified_scale_ops[{index}]: shares a quantizer with entry "
                f"{', '.join(map(str, sorted(taken)))}; make one entry of them."
            )
        owner |= dict.fromkeys(ids, index)
        if len(ids) > 1:
            setup.register_unified_scale_group(sorted(ids))
        for i in ids:
            if setup.quantization_points[i].is_activation_quantization_point():
                setup.quantization_points[i].qconfig.per_channel = False  # their channels are not the same
    raise_faults(faults)


def share_inputs_of_calls(setup: SingleConfigQuantizerSetup, graph: NNCFGraph) -> None:
    """
    Gives the inputs of all calls of one layer one quantizer, in place: its bias has one grid then, as of other layers.

    :param setup: NNCF's quantizer setup.
    :param graph: NNCF's graph of the model.
    """
    layers, points = layer_nodes(graph), setup.quantization_points
    weighted = {p.insertion_point.target_node_name for p in points.values() if p.is_weight_quantization_point()}
    quantized = {node.layer_name for node in layers if node.node_name in weighted}
    for layer_name in sorted(repeated_layers(layers) & quantized):
        calls = {node.node_name for node in layers if node.layer_name == layer_name}
        ids = {i for i, p in points.items() if p.is_activation_quantization_point() and calls & set(served_nodes(p))}
        ids = _taken_from_groups(setup, ids)
        if len(ids) > 1:
            setup.register_unified_scale_group(sorted(ids))


def _taken_from_groups(setup: SingleConfigQuantizerSetup, ids: set[int]) -> set[int]:
    """Returns the points with all that are unified with one of them already, whose groups are dissolved."""
    for group_id, unified in list(setup.unified_scale_groups.items()):
        if unified & ids:
            ids = ids | setup.unified_scale_groups.pop(group_id)
    return ids


def apply_rules(setup: SingleConfigQuantizerSetup, weights: GroupRules, activations: GroupRules) -> None:
    """
    Sets ``per_channel`` of weights and the sign of activations, in place.

    :param setup: NNCF's quantizer setup.
    :param weights: The rules of the weights.
    :param activations: The rules of the activations.
    :raises ConfigError: If scopes give the operations behind one quantizer both signs.
    """
    points = setup.quantization_points
    for point in points.values():
        if point.is_weight_quantization_point():
            per_channel = rule_for(weights, point.insertion_point.target_node_name).per_channel
            if per_channel is not None:
                point.qconfig.per_channel = per_channel
    unified = list(setup.unified_scale_groups.values())
    grouped = set().union(*unified)
    faults = []
    for ids in [*unified, *({i} for i in points if i not in grouped)]:
        fed = sorted({name for i in ids for name in served_nodes(points[i])})
        signs = {name: sign for name in fed if (sign := rule_for(activations, name).signed) is not None}
        if len(set(signs.values())) > 1:
            each = ", ".join(f"{str(sign).lower()} for {name!r}" for name, sign in signs.items())
            faults.append(f"compression.scope_overrides.activations: one quantizer is to be signed {each}; give one.")
        signed = next(iter(signs.values()), activations.common.signed)
        for i in ids if fed and signed is not None else ():
            points[i].qconfig.signedness_to_force = signed
    raise_faults(faults)
