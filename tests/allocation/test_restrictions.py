"""Restrictions against brute force over what they leave."""

import itertools

import numpy as np
import pytest

from llt_nncf.allocation import Restrictions
from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.cost import Budget
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import SearchOptionError

RULES = {
    "weights of a layer": (Restrictions(weight_bits={"layer1": (4,)}), lambda name, w, a: name != "layer1" or w == 4),
    "a pattern": (Restrictions(weight_bits={"layer[23]": (4, 2)}), lambda name, w, a: name[-1] not in "23" or w != 3),
    "two patterns": (
        Restrictions(weight_bits={"*": (4, 3), "layer2": (3, 2)}),
        lambda name, w, a: w in ((3,) if name == "layer2" else (4, 3)),
    ),
    "input of a layer": (
        Restrictions(activation_bits={"layer2": (2,)}),
        # layer1 and layer2 share their activation quantizer.
        lambda name, w, a: name not in ("layer1", "layer2") or a == 2,
    ),
    "weight only": (Restrictions(weight_only=True), lambda name, w, a: a == 4),
    "tied": (Restrictions(tied=True), lambda name, w, a: w == a),
    "tied, and one at 3": (
        Restrictions(tied=True, weight_bits={"layer1": (3,)}),
        lambda name, w, a: w == a and (name not in ("layer1", "layer2") or w == 3),
    ),
}


@pytest.mark.parametrize("kind", ["indicators", "scores"])
@pytest.mark.parametrize(("restrictions", "may"), RULES.values(), ids=RULES.keys())
def test_what_is_left_matches_brute_force(restrictions, may, kind, make_indicators, make_scores):
    make = make_indicators if kind == "indicators" else make_scores
    scored = make(3, (1, 2, 1), candidates=(4, 3, 2))
    layers = scored.table.layers
    rows = []
    for pairs in itertools.product(itertools.product((4, 3, 2), repeat=2), repeat=4):
        if pairs[1][1] == pairs[2][1] and all(may(x.name, *pair) for x, pair in zip(layers, pairs, strict=True)):
            if kind == "scores":
                objective = sum(scored.scores[x.name][pair] for x, pair in zip(layers, pairs, strict=True))
            else:
                objective = sum(scored.weights[x.name][w] for x, (w, _) in zip(layers, pairs, strict=True))
                objective += sum(
                    scored.activations[f"quantizer{g}"][pairs[first][1]] for g, first in enumerate((0, 1, 3))
                )
            rows.append((objective, sum(x.macs * w * a for x, (w, a) in zip(layers, pairs, strict=True))))
    objectives, bitops = np.array(rows).T
    for most in (*np.quantile(bitops, (0, 0.1, 0.4, 1.0)), bitops.min() - 1):
        budget = Budget(gbitops=most / 1e9)
        if most < bitops.min():
            with pytest.raises(InfeasibleBudgetError):
                allocate_bits(scored, budget, restrictions=restrictions, outliers="keep")
            continue
        found = allocate_bits(scored, budget, restrictions=restrictions, outliers="keep")
        assert found.objective == pytest.approx(objectives[bitops <= most].min(), rel=1e-12)
        assert all(may(name, *pair) for name, pair in found.policy.bits.items())


TABLE = LayerTable(
    (
        Layer("first", 10, 10, "input", (8,), (8,)),
        Layer("a", 10, 10, "relu", (4, 2), (4, 3)),
        Layer("b", 10, 10, "relu", (3, 2), (4, 3)),
    )
)
SCORES = PairScoreTable(
    TABLE, {x.name: dict.fromkeys(itertools.product(x.weight_bits, x.activation_bits), 0.0) for x in TABLE.layers[1:]}
)


@pytest.mark.parametrize(
    ("restrictions", "words"),
    [
        (Restrictions(weight_bits={"c": (4,)}), r"weight_bits\['c'\] matches no layer"),
        (Restrictions(activation_bits={"first": (4,)}), r"activation_bits\['first'\] matches no layer"),
        (Restrictions(weight_bits={"a": (3,)}), r"nothing is left for a \(W\[4, 2\], A\[4, 3\]\), b"),
        (Restrictions(tied=True), r"nothing is left for a .*, b .*, fed by the activation quantizer 'relu'"),
    ],
    ids=["no layer", "only a fixed one", "no candidate", "no common bits"],
)
def test_restrictions_that_leave_nothing_are_refused_with_the_place(restrictions, words):
    with pytest.raises(SearchOptionError, match=words):
        allocate_bits(SCORES, Budget(gbitops=1.0), restrictions=restrictions)


def test_all_faults_are_named_at_once():
    restrictions = Restrictions(weight_bits={"x": (4,), "a": (8,)}, activation_bits={"y": (4,)})
    with pytest.raises(SearchOptionError, match=r"\['x'\].*\['y'\].*nothing is left"):
        allocate_bits(SCORES, Budget(gbitops=1.0), restrictions=restrictions)


def test_what_holds_an_infeasible_budget_names_the_restricted_layers():
    with pytest.raises(InfeasibleBudgetError, match="fixed: 'first' at W8A8, 'a' at W4, 'b' at W3"):
        allocate_bits(SCORES, Budget(gbitops=1e-9), restrictions=Restrictions(weight_bits={"a": (4,), "b": (3,)}))
