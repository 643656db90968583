import json
from pathlib import Path

import pytest

from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.errors import ArtifactError


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_costs_that_do_not_add_up_are_refused_by_place(value: float):
    with pytest.raises(ArtifactError, match=r"'energy'.*costs\['a'\]\[\(4, 2\)\]="):
        CostTable("energy", "mJ", {"a": {(4, 2): value}})


def test_a_table_needs_a_name():
    with pytest.raises(ArtifactError, match="it has no name"):
        CostTable("", "ms", {})


def test_a_hand_written_table_needs_no_details(tmp_path: Path):
    path = tmp_path / "energy.json"
    content = {"name": "energy", "unit": "mJ", "source": "by hand", "costs": {"a": {"w4a2": 1}}}
    path.write_text(json.dumps({"schema": "llt_nncf.cost_table/1", **content}))
    assert CostTable.load(path) == CostTable("energy", "mJ", {"a": {(4, 2): 1.0}}, "by hand")


def test_the_kind_of_what_is_searched_is_known_by_its_schema(indicators, pair_scores, tmp_path: Path):
    for saved in (indicators, pair_scores):
        assert load_scored_layers(saved.save(tmp_path / "scored.json")) == saved
