"""What ``get_compression_state()`` has of this algorithm: made of plain JSON values, and read strictly."""

import json
from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nncf
import torch
from nncf.common.graph.transformations.commands import TargetType
from nncf.common.logging import nncf_logger

import llt_nncf
from llt_nncf.adapter.nncf_quantizer import SWITCHABLE_MODE
from llt_nncf.adapter.nncf_quantizer import SwitchableQuantizerSpec
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts.json_file import parsing
from llt_nncf.artifacts.json_file import typed
from llt_nncf.config import ALGORITHM_NAME
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import located
from llt_nncf.errors import some_of

_SCHEMA = "llt_nncf.compression_state/1"
_WHERE = "compression_state"
_REMEDY = "Give what compression_ctrl.get_compression_state() returned, or leave it out to start anew."
_FLAGS = ("narrow_range", "half_range", "logarithm_scale", "is_quantized_on_export")

Shape = tuple[int, ...]


def plain(state: Any) -> Any:
    """
    Returns ``state`` as JSON would give it back: keys are strings, tuples lists, enumerations numbers.

    :raises ArtifactError: If something in it cannot be written as JSON.
    """
    try:
        return json.loads(json.dumps(state))
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"{_WHERE}: holds what JSON cannot: {error}. {_REMEDY}"
        raise ArtifactError(msg) from error


@dataclass(frozen=True)
class BuilderState:
    """
    In which model the quantizers stood, and where.

    :param table: The layers.
    :param weight_shapes: The weight shape of every layer of the model, whether quantized or not.
    :param specs: Id of each quantization point to the values of its ``SwitchableQuantizerSpec``.
    :param targets: Id of each quantization point to the node in NNCF's graph that it stands at.
    """

    table: LayerTable
    weight_shapes: Mapping[str, Shape]
    specs: Mapping[int, Mapping[str, Any]]
    targets: Mapping[int, str]

    @staticmethod
    def to_dict(
        nncf_state: Mapping[str, Any], *, table: LayerTable, weight_shapes: Mapping[str, Shape]
    ) -> dict[str, Any]:
        """Returns NNCF's own state of a quantization builder with what is kept beside it, in JSON's types."""
        own = {"schema": _SCHEMA, "weight_shapes": weight_shapes}
        return plain({**own, **table.to_dict(), **nncf_state})

    @classmethod
    def from_dict(cls, content: Any) -> "BuilderState":
        """
        Reads what ``to_dict`` returned.

        :raises ArtifactError: If it is damaged, or of another schema.
        """
        content = plain(content)
        with parsing(_WHERE, "a state of this algorithm's quantizers"):
            _check_schema(typed(content, dict))
            setup = typed(content["quantizer_setup"], dict)
            points = {int(i): typed(point, dict) for i, point in typed(setup["quantization_points"], dict).items()}
            _check_groups(setup, points)
            _check_infos(content)
            specs = {i: _spec(point) for i, point in points.items()}
            targets = {i: typed(point["target_point"]["target_node_name"], str) for i, point in points.items()}
            shapes = {
                name: tuple(typed(size, int) for size in typed(shape, list))
                for name, shape in typed(content["weight_shapes"], dict).items()
            }
        return cls(LayerTable.from_dict(content, _WHERE), shapes, specs, targets)

    def check_model(self, weighted_nodes: Mapping[str, tuple[str, Shape]], nodes: Collection[str]) -> None:
        """
        Checks that the state is of this model.

        :param weighted_nodes: Every node of NNCF's graph that is a layer, to the layer's name and weight shape.
        :param nodes: All nodes of NNCF's graph.
        :raises ArtifactError: With the layers that are missing, new, or of another shape.
        """
        here, there = dict(weighted_nodes.values()), self.weight_shapes
        faults = [
            f"{name!r} has weights of {list(here[name])} here and of {list(shape)} there"
            for name, shape in there.items()
            if name in here and here[name] != shape
        ]
        faults += [f"{name!r} is missing here" for name in there if name not in here]
        faults += [f"{name!r} is new here" for name in here if name not in there]
        # Of the same layers the forward may still be another.
        if not faults:
            missing = dict.fromkeys(name for name in self.targets.values() if name not in nodes)
            faults = [f"there is no operation {name!r} to quantize here" for name in missing]
        if not faults:
            faults = self._faults_of_scales(weighted_nodes)
        if faults:
            msg = (
                f"The {_WHERE} is of another model: {some_of(faults, 8, '; ')}. Create the model that was trained (the "
                "same number of classes, for example), or leave the state out to start anew."
            )
            raise ArtifactError(msg)

    def _faults_of_scales(self, weighted_nodes: Mapping[str, tuple[str, Shape]]) -> list[str]:
        faults = []
        for point_id, spec in self.specs.items():
            scale, node = spec["scale_shape"], self.targets[point_id]
            if scale == (1,):
                continue
            name, shape = weighted_nodes.get(node, (node, ()))
            if len(scale) != len(shape) or any(a not in (1, b) for a, b in zip(scale, shape, strict=True)):
                faults.append(f"step sizes of {list(scale)} do not fit {name!r}")
        return faults


@dataclass(frozen=True)
class ControllerState:
    """
    How far the training has come.

    :param importance_steps: Optimizer steps of importance training.
    :param policy: The policy in force.
    :param indicators: What it was searched with.
    :param budget: ``Budget.to_dict`` of the config.
    """

    importance_steps: int
    policy: BitPolicy | None
    indicators: IndicatorTable | None
    budget: Mapping[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-able values; the indicators without the layers, which the builder's state has."""
        return {
            "schema": _SCHEMA,
            "versions": {"llt_nncf": llt_nncf.__version__, "nncf": nncf.__version__, "torch": str(torch.__version__)},
            "importance_steps": self.importance_steps,
            "policy": None if self.policy is None else self.policy.to_dict(),
            "indicators": None if self.indicators is None else self.indicators.to_dict(),
            "budget": self.budget,
        }

    @classmethod
    def from_dict(cls, content: Any, table: LayerTable) -> "ControllerState":
        """
        Reads the controller's state.

        :param content: What ``to_dict`` returned, with NNCF's keys beside.
        :param table: The layers.
        :raises ArtifactError: If it is damaged, or of another schema.
        :raises InvalidIndicatorError: If it has indicators that are not of these layers, or not usable.
        """
        content = plain(content)
        with parsing(_WHERE, "a state of this algorithm's controller"):
            _check_schema(typed(content, dict))
            for key in ("current_step", "current_epoch"):
                typed(content["scheduler_state"][key], int)
            steps = typed(content["importance_steps"], int)
            if steps < 0:
                msg = f"importance_steps={steps} is negative"
                raise ValueError(msg)
            policy = None if content["policy"] is None else BitPolicy.from_dict(content["policy"], f"{_WHERE}, policy")
            if policy is not None:
                with located(f"{_WHERE}, policy"):
                    policy.check(table)
            indicators = None
            if content["indicators"] is not None:
                indicators = IndicatorTable.from_dict(content["indicators"], table, f"{_WHERE}, indicators")
            budget = None if content["budget"] is None else typed(content["budget"], dict)
        return cls(steps, policy, indicators, budget)

    def warn_of_budget(self, budget: Mapping[str, Any] | None) -> None:
        """Says so if the policy was found within another budget than the config has now."""
        if self.budget not in (None, budget):
            nncf_logger.warning(
                f"compression.budget={budget} has no effect on the policy of the compression state, found within "
                f"{self.budget}: compression_ctrl.search(compression_ctrl.indicators) finds one anew."
            )


def check_compression_state(state: Any) -> None:
    """
    Checks that a whole state, of one algorithm or several, has this one's two parts and that both can be read.

    :param state: What was given as ``compression_state``.
    :raises ArtifactError: If it does not, is damaged or of another schema.
    :raises InvalidIndicatorError: If its indicators are not usable.
    """
    parts = []
    for name in ("builder_state", "ctrl_state"):
        part = state.get(name) if isinstance(state, Mapping) else None
        if not isinstance(part, Mapping):
            msg = f"{_WHERE}: has no {name!r}. {_REMEDY}"
            raise ArtifactError(msg)
        if ALGORITHM_NAME not in part:
            named = ", ".join(map(repr, part)) or "no algorithm"
            msg = f"{_WHERE}: its {name!r} is of {named}, and the config is of {ALGORITHM_NAME!r}. {_REMEDY}"
            raise ArtifactError(msg)
        parts.append(part[ALGORITHM_NAME])
    builder = BuilderState.from_dict(parts[0])
    ControllerState.from_dict(parts[1], builder.table)


def _check_schema(content: Mapping[str, Any]) -> None:
    found = content.get("schema")
    if found != _SCHEMA:
        versions = content.get("versions")
        writer = f", written by {versions}" if versions else ""
        msg = (
            f"{_WHERE}: the schema is {found!r}{writer}; llt_nncf {llt_nncf.__version__} reads {_SCHEMA!r}. Go on with "
            "the version that wrote it."
        )
        raise ArtifactError(msg)


def _spec(point: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a point's spec, checked so far that a quantizer can be made of them."""
    target, content = typed(point["target_point"], dict), typed(point["qspec"], dict)
    spec = {name: content[name] for name in SwitchableQuantizerSpec.get_arg_names()}
    is_weight = TargetType[target["target_type"]["name"]] == TargetType.OPERATION_WITH_WEIGHTS
    if target["input_port_id"] is not None:
        typed(target["input_port_id"], int)
    for name in point["directly_quantized_operator_node_names"]:
        typed(name, str)
    for name in _FLAGS:
        typed(spec[name], bool)
    for name, kind in (("signedness_to_force", bool), ("compression_lr_multiplier", float)):
        if spec[name] is not None:
            typed(spec[name], kind)
    for name in ("candidate_bits", "scale_shape"):
        spec[name] = tuple(typed(number, int) for number in typed(spec[name], list))
    bits = spec["candidate_bits"]
    if len(set(bits)) < len(bits) or not all(2 <= candidate <= 8 for candidate in bits):
        msg = f"candidate_bits={bits} must be distinct, each from 2 to 8"
        raise ValueError(msg)
    if spec["mode"] != SWITCHABLE_MODE or spec["num_bits"] not in bits:
        msg = f"mode={spec['mode']!r}, num_bits={spec['num_bits']!r} of {spec['candidate_bits']}"
        raise ValueError(msg)
    if spec["is_quantized_on_export"] != is_weight or not (is_weight or spec["scale_shape"] == (1,)):
        msg = f"{target['target_type']['name']} with step sizes of {spec['scale_shape']}"
        raise ValueError(msg)
    return spec


def _check_groups(setup: Mapping[str, Any], points: Collection[int]) -> None:
    for kind in ("unified_scale_groups", "shared_input_operation_set_groups"):
        for group_id, members in typed(setup[kind], dict).items():
            int(group_id)
            if not members or not {typed(member, int) for member in typed(members, list)} <= set(points):
                msg = f"{kind}[{group_id}]={members} are not all points"
                raise ValueError(msg)


def _check_infos(content: Mapping[str, Any]) -> None:
    typed(content["version"], int)
    for count in typed(content["build_time_metric_infos"], dict).values():
        typed(count, int)
