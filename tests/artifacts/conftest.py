"""One small example of every artifact."""

import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.artifacts import ValidationReport


@pytest.fixture
def table() -> LayerTable:
    """Four layers: the ends fixed at 8 bits, ``a`` and ``b`` fed by one quantizer."""
    return LayerTable(
        (
            Layer("first", 100, 10, "input", (8,), (8,)),
            Layer("a", 200, 20, "relu", (4, 3, 2), (4, 2)),
            Layer("b", 300, 30, "relu", (4, 3, 2), (4, 2), depthwise=True),
            Layer("last", 50, 50, "pool", (8,), (8,)),
        ),
        {"add": 8},
    )


@pytest.fixture
def policy() -> BitPolicy:
    return BitPolicy({"first": (8, 8), "a": (4, 2), "b": (2, 2), "last": (8, 8)}, {"objective": 0.5})


@pytest.fixture
def indicators(table: LayerTable) -> IndicatorTable:
    weights = {"a": {4: 0.1, 3: 0.2, 2: 0.4}, "b": {4: 0.2, 3: 0.3, 2: 0.5}}
    return IndicatorTable(table, weights, {"relu": {4: 0.3, 2: 0.9}}, "step_size, 5 epochs, seed 0")


@pytest.fixture
def pair_scores(table: LayerTable) -> PairScoreTable:
    scores = {(w, a): 0.1 * w - 0.2 * a for w in (4, 3, 2) for a in (4, 2)}
    return PairScoreTable(table, {"a": scores, "b": {**scores, (2, 2): -1.5}}, "loss differences, 512 images")


@pytest.fixture
def costs() -> CostTable:
    return CostTable("latency", "ms", {"a": {(4, 2): 0.5, (2, 2): 0.25}}, "measured", {"cpu": "some"})


@pytest.fixture
def report() -> ValidationReport:
    return ValidationReport(False, ("agreement is 98 %",), {"agreement": {"openvino": 0.98}, "rows": [1, None]})


@pytest.fixture(params=["table", "policy", "indicators", "pair_scores", "costs", "report"])
def artifact(request: pytest.FixtureRequest):
    """Each of them in turn."""
    return request.getfixturevalue(request.param)
