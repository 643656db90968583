from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import InvalidIndicatorError

GOOD = {4: 0.1, 3: 0.2, 2: 0.4}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_values_that_cannot_be_compared_are_refused_by_place(table: LayerTable, value: float):
    with pytest.raises(InvalidIndicatorError, match=r"weights\['b'\]\[3\]="):
        IndicatorTable(table, {"a": GOOD, "b": {**GOOD, 3: value}}, {"relu": {4: 0.3, 2: 0.9}})
    with pytest.raises(InvalidIndicatorError, match=r"activations\['relu'\]\[2\]="):
        IndicatorTable(table, {"a": GOOD, "b": GOOD}, {"relu": {4: 0.3, 2: value}})


def test_missing_values_are_all_named(table: LayerTable):
    with pytest.raises(InvalidIndicatorError, match=r"weights\['a'\]\[4\] is missing.*activations\['relu'\]\[2\]"):
        IndicatorTable(table, {"b": GOOD}, {"relu": {4: 0.3}})


def test_fixed_layers_need_no_indicators(indicators: IndicatorTable):
    assert "first" not in indicators.weights
    assert "input" not in indicators.activations


def test_zero_is_an_indicator(table: LayerTable):
    IndicatorTable(table, {"a": {**GOOD, 4: 0.0}, "b": GOOD}, {"relu": {4: 0.3, 2: 0.9}})


def test_numbers_of_numpy_are_kept_as_plain_ones(indicators: IndicatorTable, tmp_path: Path):
    weights = {name: {b: np.float32(v) for b, v in row.items()} for name, row in indicators.weights.items()}
    table = replace(indicators, weights=weights)
    assert IndicatorTable.load(table.save(tmp_path / "indicators.json")) == table
