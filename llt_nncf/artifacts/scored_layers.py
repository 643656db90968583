"""What the search takes, whichever of its two kinds a file holds."""

from pathlib import Path

from llt_nncf.artifacts.indicator_table import IndicatorTable
from llt_nncf.artifacts.json_file import schema_of
from llt_nncf.artifacts.pair_score_table import PAIR_SCORES_SCHEMA
from llt_nncf.artifacts.pair_score_table import PairScoreTable


def load_scored_layers(path: Path | str) -> IndicatorTable | PairScoreTable:
    """
    Loads indicators, or scores of pairs, by the schema that the file names.

    :raises ArtifactError: If the file is missing, malformed or of another schema.
    :raises InvalidIndicatorError: If an indicator or a score is missing or not usable.
    """
    return PairScoreTable.load(path) if schema_of(path) == PAIR_SCORES_SCHEMA else IndicatorTable.load(path)
