"""Any cost that adds up over the layers, such as latency, for every pair of bits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from llt_nncf.artifacts.bit_pair import BitPair
from llt_nncf.artifacts.bit_pair import PairToValue
from llt_nncf.artifacts.bit_pair import pairs_from_json
from llt_nncf.artifacts.bit_pair import pairs_to_json
from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import parsing
from llt_nncf.artifacts.json_file import save_json
from llt_nncf.artifacts.json_file import typed
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import located

_SCHEMA = "llt_nncf.cost_table/1"


@dataclass(frozen=True)
class CostTable:
    """
    What every layer costs at every pair of bits.

    :param name: What it is a cost in, for example ``latency``.
    :param unit: For example ``ms``.
    :param costs: Layer name to ((weight bits, activation bits) to cost); fixed layers too.
    :param source: How it came about, for the reader.
    :param details: Anything more for the reader that JSON can hold; nothing depends on it.
    :raises ArtifactError: If a cost is NaN, infinite or negative, or the name is empty.
    """

    name: str
    unit: str
    costs: Mapping[str, PairToValue]
    source: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = [] if self.name else ["it has no name"]
        for name, values in self.costs.items():
            faults += [
                f"costs[{name!r}][{pair}]={value}"
                for pair, value in values.items()
                if not (math.isfinite(value) and value >= 0)
            ]
        if faults:
            msg = f"Cost table {self.name!r}: costs must be finite and not negative: {'; '.join(faults[:20])}."
            raise ArtifactError(msg)

    def save(self, path: Path | str) -> Path:
        """Saves the table as JSON, atomically."""
        content = {
            "name": self.name,
            "unit": self.unit,
            "source": self.source,
            "costs": pairs_to_json(self.costs),
            "details": dict(self.details),
        }
        return save_json(path, _SCHEMA, content)

    @classmethod
    def load(cls, path: Path | str) -> "CostTable":
        """
        Loads a saved table.

        :raises ArtifactError: If the file is missing or malformed.
        """
        content = load_json(path, _SCHEMA)
        with parsing(path, "a cost table"):
            costs: dict[str, dict[BitPair, float]] = pairs_from_json(content["costs"])
            name, unit, source = (typed(content[key], str) for key in ("name", "unit", "source"))
            details = typed(content.get("details", {}), dict)
        with located(path):
            return cls(name, unit, costs, source, details)
