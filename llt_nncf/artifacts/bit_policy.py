"""A bit-width for every layer's weights and input."""

import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import parsing
from llt_nncf.artifacts.json_file import save_json
from llt_nncf.artifacts.json_file import typed
from llt_nncf.artifacts.layer_table import LayerTable
from llt_nncf.errors import ArtifactError

BIT_POLICY_SCHEMA = "llt_nncf.bit_policy/1"


@dataclass(frozen=True)
class BitPolicy:
    """
    Layer to (weight bits, activation bits).

    :param bits: One entry per layer of the table that it was made for.
    :param provenance: How it was found (budget, objective, bound, totals), for the reader; nothing depends on it.
    """

    bits: Mapping[str, tuple[int, int]]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plain = {name: (operator.index(w), operator.index(a)) for name, (w, a) in self.bits.items()}
        object.__setattr__(self, "bits", plain)  # NumPy's integers, too, fit into JSON then

    @classmethod
    def uniform(cls, table: LayerTable, *, weight_bits: int, activation_bits: int) -> "BitPolicy":
        """
        The same bits everywhere, except where a layer is fixed at others.

        :param table: The layers.
        :param weight_bits: Bits of all weights that are not fixed; must be a candidate of each.
        :param activation_bits: Bits of all activations that are not fixed; likewise.
        :raises ArtifactError: If a layer does not have these candidates.
        """
        bits = {layer.name: layer.uniform_bits(weight_bits, activation_bits) for layer in table.layers}
        policy = cls(bits, {"uniform": {"weight_bits": weight_bits, "activation_bits": activation_bits}})
        policy.check(table)
        return policy

    def check(self, table: LayerTable) -> None:
        """
        Checks that the policy fits the table: every layer named, candidates only, shared quantizers agreed.

        :param table: The layers.
        :raises ArtifactError: With every fault named.
        """
        faults = [f"{name!r} is no layer of the table" for name in self.bits if name not in table.by_name]
        for layer in table.layers:
            if layer.name not in self.bits:
                faults.append(f"{layer.name!r} is missing")
                continue
            weight_bits, activation_bits = self.bits[layer.name]
            if weight_bits not in layer.weight_bits:
                faults.append(f"{layer.name}: weight bits {weight_bits}, candidates {list(layer.weight_bits)}")
            if activation_bits not in layer.activation_bits:
                candidates = list(layer.activation_bits)
                faults.append(f"{layer.name}: activation bits {activation_bits}, candidates {candidates}")
        for group, layers in table.groups.items():
            chosen = {self.bits[layer.name][1] for layer in layers if layer.name in self.bits}
            if len(chosen) > 1:
                names = ", ".join(layer.name for layer in layers)
                faults.append(f"{names} share the activation quantizer {group!r} but have {sorted(chosen)} bits")
        if faults:
            raise ArtifactError("Policy does not fit the layers: " + "; ".join(faults) + ".")

    def activation_bits(self, table: LayerTable) -> dict[str, int]:
        """Bits of every activation quantizer by name: those of the groups and the unsearched ones."""
        feeding = {
            group: self.bits[layers[0].name][1] for group, layers in table.groups.items() if layers[0].has_quantizer
        }
        return {**feeding, **table.unsearched}

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-able values."""
        bits = {name: {"weight_bits": w, "activation_bits": a} for name, (w, a) in self.bits.items()}
        return {"bits": bits, "provenance": dict(self.provenance)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str = "policy") -> "BitPolicy":
        """
        Builds the policy from ``to_dict``'s values.

        :raises ArtifactError: If the values are not a policy's.
        """
        with parsing(where, "a bit policy"):
            bits = {
                name: (typed(row["weight_bits"], int), typed(row["activation_bits"], int))
                for name, row in typed(content["bits"], dict).items()
            }
            provenance = typed(content.get("provenance", {}), dict)
        return cls(bits, provenance)

    @classmethod
    def from_json(cls, text: str, where: str) -> "BitPolicy":
        """
        Builds the policy from the JSON of ``to_dict``, as exported files carry it.

        :raises ArtifactError: If it is no JSON, or not a policy's.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            msg = f"{where}: the policy cannot be read as JSON: {error}"
            raise ArtifactError(msg) from error
        return cls.from_dict(content, where)

    def save(self, path: Path | str) -> Path:
        """Saves the policy as JSON, atomically."""
        return save_json(path, BIT_POLICY_SCHEMA, self.to_dict())

    @classmethod
    def load(cls, path: Path | str) -> "BitPolicy":
        """
        Loads a saved policy.

        :raises ArtifactError: If the file is missing or malformed.
        """
        return cls.from_dict(load_json(path, BIT_POLICY_SCHEMA), str(path))
