"""Importance indicators with the layers that they belong to: all that the search needs, in one file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import parsing
from llt_nncf.artifacts.json_file import save_json
from llt_nncf.artifacts.json_file import typed
from llt_nncf.artifacts.layer_table import LayerTable
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.errors import located
from llt_nncf.errors import some_of

INDICATORS_SCHEMA = "llt_nncf.indicators/1"

BitsToValue = Mapping[int, float]


def plain_values(values: Mapping[Any, Any]) -> dict[Any, float]:
    """Returns NumPy's and PyTorch's numbers as Python's; without what no layer needs and JSON cannot hold."""
    return {key: float(value) for key, value in values.items() if math.isfinite(value)}


@dataclass(frozen=True)
class IndicatorTable:
    """
    One indicator per layer (weights) and per activation quantizer, for each candidate bit-width.

    Fixed layers and quantizers need no indicators: nothing is chosen there.

    :param table: The layers.
    :param weights: Layer name to (bit-width to indicator).
    :param activations: Activation group to (bit-width to indicator).
    :param source: How they came about, for the reader: ``step_size, 5 epochs, seed 0``.
    :raises InvalidIndicatorError: If one is missing, NaN, infinite or negative; all are named.
    """

    table: LayerTable
    weights: Mapping[str, BitsToValue]
    activations: Mapping[str, BitsToValue]
    source: str = ""

    def __post_init__(self) -> None:
        faults = []
        wanted = [("weights", layer.name, layer.weight_bits) for layer in self.table.layers]
        wanted += [("activations", name, rows[0].activation_bits) for name, rows in self.table.groups.items()]
        for kind, name, bits in wanted:
            values = getattr(self, kind).get(name, {})
            for num_bits in bits if len(bits) > 1 else ():
                value = values.get(num_bits)
                if value is None:
                    faults.append(f"{kind}[{name!r}][{num_bits}] is missing")
                elif not math.isfinite(value) or value < 0:
                    faults.append(f"{kind}[{name!r}][{num_bits}]={value}")
        if faults:
            shown = some_of(faults, 20, "; ")
            msg = f"Indicators must be given for every candidate, finite and not negative: {shown}."
            raise InvalidIndicatorError(msg)
        for kind in ("weights", "activations"):
            rows = {name: plain_values(values) for name, values in getattr(self, kind).items()}
            object.__setattr__(self, kind, rows)

    def save(self, path: Path | str) -> Path:
        """Saves table and indicators as one self-contained JSON file, atomically."""
        return save_json(path, INDICATORS_SCHEMA, {**self.table.to_dict(), **self.to_dict()})

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-able values, without the layers."""
        return {"source": self.source, **self.values_to_dict()}

    def values_to_dict(self) -> dict[str, dict[str, dict[str, float]]]:
        """Returns the indicators alone as JSON-able values."""
        return {
            kind: {name: {str(b): v for b, v in values.items()} for name, values in getattr(self, kind).items()}
            for kind in ("weights", "activations")
        }

    @classmethod
    def load(cls, path: Path | str) -> "IndicatorTable":
        """
        Loads a saved file.

        :raises ArtifactError: If the file is missing or malformed.
        :raises InvalidIndicatorError: If an indicator is missing or not usable.
        """
        content = load_json(path, INDICATORS_SCHEMA)
        return cls.from_dict(content, LayerTable.from_dict(content, str(path)), str(path))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], table: LayerTable, where: str = "indicators") -> "IndicatorTable":
        """
        Builds the table from ``to_dict``'s values.

        :param content: The values.
        :param table: The layers.
        :param where: Named in errors.
        :raises ArtifactError: If a key is missing, or of the wrong type.
        :raises InvalidIndicatorError: If an indicator is missing or not usable.
        """
        with parsing(where, "an indicator table"):
            kinds = {
                kind: {
                    name: {int(bits): typed(value, float) for bits, value in typed(values, dict).items()}
                    for name, values in typed(content[kind], dict).items()
                }
                for kind in ("weights", "activations")
            }
            source = typed(content["source"], str)
        with located(where):
            return cls(table, kinds["weights"], kinds["activations"], source)
