import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llt_nncf.artifacts import PairScoreTable
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import InvalidIndicatorError


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_cannot_be_compared_are_refused_by_place(pair_scores: PairScoreTable, value: float):
    scores = {**pair_scores.scores, "b": {**pair_scores.scores["b"], (3, 2): value}}
    with pytest.raises(InvalidIndicatorError, match=r"scores\['b'\]\[\(3, 2\)\]="):
        replace(pair_scores, scores=scores)


def test_missing_pairs_are_all_named_and_many_are_counted(pair_scores: PairScoreTable):
    without_one = {name: {p: v for p, v in row.items() if p != (4, 2)} for name, row in pair_scores.scores.items()}
    with pytest.raises(
        InvalidIndicatorError, match=r"\['a'\]\[\(4, 2\)\] is missing; .*\['b'\]\[\(4, 2\)\] is missing"
    ):
        replace(pair_scores, scores=without_one)
    with pytest.raises(InvalidIndicatorError, match=r"\['a'\]\[\(4, 4\)\] is missing"):
        replace(pair_scores, scores={"b": pair_scores.scores["b"]})


def test_fixed_layers_need_no_scores_and_a_score_may_be_negative(pair_scores: PairScoreTable):
    assert set(pair_scores.scores) == {"a", "b"}
    assert pair_scores.scores["b"][2, 2] < 0


@pytest.mark.parametrize("key", ["4,2", "w4", "w9a2", "w1a2", "a2w4", "w4a2 ", "w04a2"])
def test_a_key_that_is_no_pair_of_bits_is_refused(pair_scores: PairScoreTable, tmp_path: Path, key: str):
    path = pair_scores.save(tmp_path / "scores.json")
    content = json.loads(path.read_text())
    content["scores"]["a"][key] = 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="of the form w4a6"):
        PairScoreTable.load(path)


def test_numbers_of_numpy_and_torch_are_kept_as_plain_ones(pair_scores: PairScoreTable, tmp_path: Path):
    scores = {
        name: {pair: np.float32(value) for pair, value in row.items()} for name, row in pair_scores.scores.items()
    }
    scores["a"] = {pair: torch.tensor(float(value)) for pair, value in scores["a"].items()}
    scores["fixed, and unknown"] = {(8, 8): math.nan}
    table = replace(pair_scores, scores=scores)
    assert PairScoreTable.load(table.save(tmp_path / "scores.json")) == table
