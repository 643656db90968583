"""Signs and granularity that the config asks for, in NNCF's quantizer setup before any data is looked at."""

from nncf.common.quantization.quantizer_setup import SingleConfigQuantizerSetup

from llt_nncf.adapter.scopes import rule_for
from llt_nncf.config import GroupRules
from llt_nncf.config import raise_faults


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
    for ids in [*unified, *({point_id} for point_id in points if point_id not in grouped)]:
        # Unified with weights are look-ups alone, which stay in float.
        served = [points[i] for i in sorted(ids) if points[i].is_activation_quantization_point()]
        fed = [name for point in served for name in point.directly_quantized_operator_node_names]
        signs = {name: sign for name in fed if (sign := rule_for(activations, name).signed) is not None}
        if len(set(signs.values())) > 1:
            each = ", ".join(f"{str(sign).lower()} for {name!r}" for name, sign in signs.items())
            faults.append(f"compression.scope_overrides.activations: one quantizer is to be signed {each}; give one.")
        signed = next(iter(signs.values()), activations.common.signed)
        for point in served if signed is not None else ():
            point.qconfig.signedness_to_force = signed
    raise_faults(faults)
