"""What the search decides about: one row per quantized layer."""

from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any

from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import parsing
from llt_nncf.artifacts.json_file import save_json
from llt_nncf.artifacts.json_file import typed
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import located

LAYER_TABLE_SCHEMA = "llt_nncf.layer_table/1"

# Ends of the names of activation groups that no quantizer stands for: the input is float, or comes from several.
FLOAT_INPUT = " (float input)"
MIXED_INPUT = " (mixed input)"
# Of such inputs, and of activation quantizers that feed no layer.
UNSEARCHED_BITS = 8

# The search adds up products with both bit-widths over all layers, in integers of 64 bits.
_MOST = 10**14


@dataclass(frozen=True)
class Layer:
    """
    One layer: its weight quantizer and the activation quantizer that feeds it.

    A layer with one candidate of a kind is fixed in that kind. All layers of an activation group read the same
    quantizer, so they have the same ``activation_bits``.

    :param name: Name of the module, for example ``layer1.0.conv1``.
    :param macs: Multiply-accumulates for one sample.
    :param weight_count: Number of weights, without the bias.
    :param activation_group: Name of the activation quantizer that feeds the layer; the layer's own name and
        ``FLOAT_INPUT`` or ``MIXED_INPUT`` if there is no such one.
    :param weight_bits: Candidate bit-widths of the weights, descending.
    :param activation_bits: Candidate bit-widths of the input, descending.
    :param depthwise: Whether every filter reads one channel of many. It is for pictures only: layers that differ in it
        are equal. Files of earlier versions do not say it, and load as ``False``.
    """

    name: str
    macs: int
    weight_count: int
    activation_group: str
    weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    depthwise: bool = field(default=False, compare=False)

    @property
    def is_fixed(self) -> bool:
        """Whether nothing is left to decide here."""
        return len(self.weight_bits) == 1 and len(self.activation_bits) == 1

    @property
    def has_float_input(self) -> bool:
        """Whether the input is not quantized; its bits are for the count of BitOPs only."""
        return self.activation_group.endswith(FLOAT_INPUT)

    @property
    def has_quantizer(self) -> bool:
        """Whether one activation quantizer feeds the layer."""
        return not self.activation_group.endswith((FLOAT_INPUT, MIXED_INPUT))

    def uniform_bits(self, weight_bits: int, activation_bits: int) -> tuple[int, int]:
        """Returns the layer's bits in the uniform policy of these: what is fixed keeps its own."""
        return (
            self.weight_bits[0] if len(self.weight_bits) == 1 else weight_bits,
            self.activation_bits[0] if len(self.activation_bits) == 1 else activation_bits,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-able values; ``depthwise`` is left out where it is ``False``."""
        content = asdict(self)
        if not self.depthwise:
            del content["depthwise"]
        return content


@dataclass(frozen=True)
class LayerTable:
    """
    All layers of a model, in the order of the forward pass.

    :param layers: The rows; names are distinct.
    :param unsearched: Activation quantizers that feed no layer (residual adds, pooling), with their fixed bit-widths.
    :raises ArtifactError: If the rows contradict each other.
    """

    layers: tuple[Layer, ...]
    unsearched: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = []
        seen: set[str] = set()
        groups: dict[str, Layer] = {}
        for layer in self.layers:
            if layer.name in seen:
                faults.append(f"layer {layer.name!r} is listed twice")
            seen.add(layer.name)
            for kind, bits in (("weight_bits", layer.weight_bits), ("activation_bits", layer.activation_bits)):
                if not bits or list(bits) != sorted(set(bits), reverse=True) or min(bits) < 2 or max(bits) > 8:
                    faults.append(f"{layer.name}.{kind}={list(bits)} must be distinct, descending, each from 2 to 8")
            for kind, count in (("macs", layer.macs), ("weight_count", layer.weight_count)):
                if not 0 < count <= _MOST:
                    faults.append(f"{layer.name}.{kind}={count} must be positive, and at most {_MOST:.0e}")
            first = groups.setdefault(layer.activation_group, layer)
            if first.activation_bits != layer.activation_bits:
                faults.append(
                    f"{first.name} and {layer.name} share the activation quantizer {layer.activation_group!r} but not "
                    f"their activation_bits: {list(first.activation_bits)} and {list(layer.activation_bits)}"
                )
        for name, num_bits in self.unsearched.items():
            if not 2 <= num_bits <= 8:
                faults.append(f"unsearched[{name!r}]={num_bits} must be from 2 to 8")
        if not self.layers:
            faults.append("there is no layer")
        if faults:
            raise ArtifactError("Layer table: " + "; ".join(faults) + ".")

    @property
    def is_fixed(self) -> bool:
        """Whether nothing is chosen at any layer."""
        return all(layer.is_fixed for layer in self.layers)

    @cached_property
    def by_name(self) -> dict[str, Layer]:
        """The rows by layer name."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def groups(self) -> dict[str, tuple[Layer, ...]]:
        """The layers that each activation quantizer feeds, in order."""
        result: dict[str, tuple[Layer, ...]] = {}
        for layer in self.layers:
            result[layer.activation_group] = (*result.get(layer.activation_group, ()), layer)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-able values."""
        return {"layers": [layer.to_dict() for layer in self.layers], "unsearched": dict(self.unsearched)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str = "layer table") -> "LayerTable":
        """
        Builds the table from ``to_dict``'s values.

        :param content: The values.
        :param where: Named in errors.
        :raises ArtifactError: If a key is missing, unknown, or of the wrong type.
        """
        with parsing(where, "a layer table"):
            rows = []
            for row in typed(content["layers"], list):
                names = {key: typed(row[key], str) for key in ("name", "activation_group")}
                counts = {key: typed(row[key], int) for key in ("macs", "weight_count")}
                bits = {key: tuple(typed(b, int) for b in row[key]) for key in ("weight_bits", "activation_bits")}
                depthwise = typed(row.get("depthwise", False), bool)
                rows.append(Layer(**{**row, **names, **counts, **bits, "depthwise": depthwise}))
            unsearched = {name: typed(num_bits, int) for name, num_bits in typed(content["unsearched"], dict).items()}
        with located(where):
            return cls(tuple(rows), unsearched)

    def save(self, path: Path | str) -> Path:
        """Saves the table as JSON, atomically."""
        return save_json(path, LAYER_TABLE_SCHEMA, self.to_dict())

    @classmethod
    def load(cls, path: Path | str) -> "LayerTable":
        """
        Loads a saved table.

        :raises ArtifactError: If the file is missing or malformed.
        """
        return cls.from_dict(load_json(path, LAYER_TABLE_SCHEMA), str(path))
