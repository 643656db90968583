"""Scores of whole (weight bits, activation bits) pairs, with the layers that they belong to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from llt_nncf.artifacts.bit_pair import PairToValue
from llt_nncf.artifacts.bit_pair import pairs_from_json
from llt_nncf.artifacts.bit_pair import pairs_to_json
from llt_nncf.artifacts.indicator_table import plain_values
from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import parsing
from llt_nncf.artifacts.json_file import save_json
from llt_nncf.artifacts.json_file import typed
from llt_nncf.artifacts.layer_table import LayerTable
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.errors import located
from llt_nncf.errors import some_of

PAIR_SCORES_SCHEMA = "llt_nncf.pair_scores/1"


@dataclass(frozen=True)
class PairScoreTable:
    """
    One score per layer and pair of candidates, the lower the better; what the search adds up in place of indicators.

    A score may be negative, for it may be a difference of losses. A fixed layer needs none: nothing is chosen there.

    :param table: The layers.
    :param scores: Layer name to ((weight bits, activation bits) to score).
    :param source: How they came about, for the reader: ``loss differences, 512 images``.
    :raises InvalidIndicatorError: If one is missing, NaN or infinite; all are named.
    """

    table: LayerTable
    scores: Mapping[str, PairToValue]
    source: str = ""

    def __post_init__(self) -> None:
        faults = []
        for layer in self.table.layers:
            values = self.scores.get(layer.name, {})
            for pair in () if layer.is_fixed else product(layer.weight_bits, layer.activation_bits):
                value = values.get(pair)
                if value is None:
                    faults.append(f"scores[{layer.name!r}][{pair}] is missing")
                elif not math.isfinite(value):
                    faults.append(f"scores[{layer.name!r}][{pair}]={value}")
        if faults:
            msg = (
                "Scores must be given for every pair (weight bits, activation bits) of candidates, and be finite: "
                f"{some_of(faults, 20, '; ')}."
            )
            raise InvalidIndicatorError(msg)
        object.__setattr__(self, "scores", {name: plain_values(values) for name, values in self.scores.items()})

    def save(self, path: Path | str) -> Path:
        """Saves table and scores as one self-contained JSON file, atomically."""
        content = {"source": self.source, **self.table.to_dict(), "scores": pairs_to_json(self.scores)}
        return save_json(path, PAIR_SCORES_SCHEMA, content)

    @classmethod
    def load(cls, path: Path | str) -> "PairScoreTable":
        """
        Loads a saved file.

        :raises ArtifactError: If the file is missing or malformed.
        :raises InvalidIndicatorError: If a score is missing or not usable.
        """
        content = load_json(path, PAIR_SCORES_SCHEMA)
        with parsing(path, "a table of pair scores"):
            scores = pairs_from_json(content["scores"])
            source = typed(content["source"], str)
        table = LayerTable.from_dict(content, str(path))
        with located(path):
            return cls(table, scores, source)
