"""A comparison that was never run: all its figures are made up, so that its means and spreads can be done by hand."""

import pytest

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable

SEEDS = (0, 1, 2)
METHODS = {"uniform": "Uniform", "llt": "LLT, learned", "shuffled": "LLT, shuffled", "rival": 'Rival <b> & "Co" | x'}
BUDGETS = {"w2a2": "BitOPs of W2A2", "w3a3": "BitOPs of W3A3", "weights-3": "3 bits per weight"}
# (method, budget) -> top-1 of the seeds that are done.
TOP1 = {
    ("uniform", "w2a2"): (88.0, 88.0, 88.3),
    ("llt", "w2a2"): (87.0, 87.2, 87.4),
    ("shuffled", "w2a2"): (86.0, 86.4),
    ("uniform", "w3a3"): (91.0, 91.0, 91.3),
    ("llt", "w3a3"): (91.0, 91.2, 91.4),
    ("shuffled", "w3a3"): (90.0, 90.2, 90.4),
    ("uniform", "weights-3"): (91.2, 91.2, 91.2),
    ("llt", "weights-3"): (91.5, 91.7, 91.9),
    ("shuffled", "weights-3"): (90.5, 90.7),
    ("rival", "weights-3"): (91.6, 91.7, 91.8),
}
PLANNED = [*TOP1, ("rival", "w2a2"), ("rival", "w3a3")]
BITS = {"w2a2": (2, 2), "w3a3": (3, 3), "weights-3": (3, 8)}


@pytest.fixture(scope="module")
def comparison(sample):
    """Four methods at three budgets with three seeds; some cells are infeasible, missing, failed, or not there."""
    results = sample("results")
    cells = [
        _done(results.Cell, method, budget, seed, top1)
        for (method, budget), all_top1 in TOP1.items()
        for seed, top1 in enumerate(all_top1)
    ]
    cells += [results.Cell("rival", "w2a2", seed, "infeasible", "It knows 2, 4 and 8 bits only.") for seed in SEEDS]
    cells += [results.Cell("rival", "w3a3", seed, "missing", "Install <made-up>.") for seed in SEEDS]
    cells += [results.Cell("shuffled", "w2a2", 2, "failed", "ValueError: made up")]
    layers = _layers()
    return results.Comparison(
        about="A made-up comparison.\nIts second line.",
        command="python samples/compare/main.py --config made_up.json",
        config={
            "methods": {
                "uniform": {"kind": "uniform"},
                "llt": {"kind": "indicators", "order": "as_trained"},
                "shuffled": {"kind": "indicators", "order": "shuffled"},
                "rival": {"kind": "rival"},
            },
            "note": "</code><script>alert(1)</script>",
        },
        machine={"processor": "made up", "cores": 2},
        versions={"torch": "0.0.1"},
        float_top1=92.0,
        methods=METHODS,
        budgets=BUDGETS,
        layers=layers.to_dict(),
        indicators={"trained": {**layers.to_dict(), **_indicators(layers).to_dict()}},
        planned=[(method, budget, seed) for method, budget in PLANNED for seed in SEEDS],
        cells=list(reversed(cells)),
    )


def _done(make, method, budget, seed, top1):
    figures = {
        "top1": top1,
        "start_top1": 10.0,
        "gbitops": 0.3 + 0.1 * seed,
        "weight_mib": 0.0625,
        "search_seconds": 0.0 if method == "uniform" else 100.0 * (seed + 1),
        "search_passes": 0.0 if method == "uniform" else 50.0,
        "finetune_seconds": 200.0,
        "finetune_passes": 300.0,
    }
    if method != "rival":
        figures["file_bytes"] = 2048.0 * (seed + 1)
    bits = {"first": (8, 8), **dict.fromkeys(("middle.0", "middle.1"), BITS[budget]), "last": (8, 8)}
    if method == "uniform":
        bits["middle.1"] = BITS[budget][0], 6
    reason = "It leaves activations at 8 bits." if method == "rival" else ""
    return make(method, budget, seed, "done", reason, figures, bits, {10: 2.0 + seed, 20: 1.0, 30: 1 / BITS[budget][0]})


def _layers():
    searched = {"weight_bits": (6, 5, 4, 3, 2), "activation_bits": (6, 5, 4, 3, 2)}
    fixed = {"weight_bits": (8,), "activation_bits": (8,)}
    rows = (("first", fixed), ("middle.0", searched), ("middle.1", searched), ("last", fixed))
    return LayerTable(tuple(Layer(name, 1000, 100, f"{name}.input", **bits) for name, bits in rows))


def _indicators(layers):
    values = {num_bits: 1 / num_bits for num_bits in (6, 5, 4, 3, 2)}
    names = ("middle.0", "middle.1")
    return IndicatorTable(
        layers, dict.fromkeys(names, values), {f"{name}.input": values for name in names}, source="made up"
    )
