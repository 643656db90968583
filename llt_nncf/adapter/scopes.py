"""Scopes of a config: names of operations in NNCF's graph, or patterns of such names behind ``{re}``."""

import difflib
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from nncf.common.quantization.quantizer_setup import SingleConfigQuantizationPoint
from nncf.common.quantization.quantizer_setup import SingleConfigQuantizerSetup
from nncf.common.scopes import matches_any

from llt_nncf.config import GroupRules
from llt_nncf.config import QuantizerRule
from llt_nncf.errors import some_of

_KEYS = ("ignored_scopes", "target_scopes")
_MOST_NAMES = 5
_OF_WEIGHTS = "weights are quantized of"
_OF_INPUTS = "inputs are quantized of"


def rule_for(rules: GroupRules, name: str) -> QuantizerRule:
    """Returns what scopes say of the operation ``name``: key by key, the last scope that matches and says something."""
    found: dict[str, Any] = {}
    for scope, rule in rules.by_scope.items():
        if matches_any(name, scope):
            found |= {key: value for key, value in vars(rule).items() if value is not None}
    return QuantizerRule(**found)


def scope_list(scopes: str | Sequence[str] | None) -> list[str]:
    """Returns scopes as a list of their own: NNCF takes the single string of its schema apart, and extends lists."""
    return [scopes] if isinstance(scopes, str) else list(scopes or ())


def placement_faults(config: Mapping[str, Any], section: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """
    Finds the scopes that say where quantizers are, and name no operation.

    :param config: The NNCF config.
    :param section: Our section of it.
    :param names: All operations.
    :return: A line per scope.
    """
    places = {"": config, "compression.": section}
    places |= {f"compression.{group}.": section.get(group, {}) for group in ("weights", "activations")}
    faults = []
    for prefix, place in places.items():
        for key in _KEYS:
            faults += _unmatched(f"{prefix}{key}", scope_list(place.get(key)), names)
    return faults


def override_faults(
    setup: SingleConfigQuantizerSetup,
    weights: GroupRules,
    activations: GroupRules,
    unified: Sequence[Sequence[str]],
) -> list[str]:
    """
    Finds the scopes of ``scope_overrides`` and ``unified_scale_ops`` that are those of no quantizer.

    :param setup: NNCF's quantizer setup.
    :param weights: The rules of the weights.
    :param activations: The rules of the activations.
    :param unified: Groups of operations that share a quantizer.
    :return: A line per scope.
    """
    points = setup.quantization_points.values()
    weighted = [point.insertion_point.target_node_name for point in points if point.is_weight_quantization_point()]
    fed = [name for point in points for name in served_nodes(point)]
    faults = _unmatched("compression.scope_overrides.weights", weights.by_scope, weighted, _OF_WEIGHTS)
    faults += _unmatched("compression.scope_overrides.activations", activations.by_scope, fed, _OF_INPUTS)
    for index, group in enumerate(unified):
        faults += _unmatched(f"compression.activations.unified_scale_ops[{index}]", group, fed, _OF_INPUTS)
    return faults


def served_nodes(point: SingleConfigQuantizationPoint) -> list[str]:
    """Returns the operations whose input a point quantizes; the tables of embeddings are their readers' inputs."""
    names = point.directly_quantized_operator_node_names
    if point.is_activation_quantization_point():
        return names
    return [name for name in names if name != point.insertion_point.target_node_name]


def _unmatched(path: str, scopes: Collection[str], names: Sequence[str], what: str = "the model has") -> list[str]:
    faults = []
    for scope in scopes:
        if not any(matches_any(name, scope) for name in names):
            near = difflib.get_close_matches(scope, names, n=1, cutoff=0.5)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"{what} {some_of(list(dict.fromkeys(names)), _MOST_NAMES)}."
            )
            faults.append(
                f"{path}: {scope!r} matches nothing; {hint} Mend it, or give compression.validate_scopes: false."
            )
    return faults
