"""Random instances, and the oracle: every policy, one by one, in plain Python integers and numpy."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import PairScoreTable


@pytest.fixture
def fixtures():
    return Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def make_indicators():
    def make(seed, groups, *, fixed_weights=(), fixed_activations=(), candidates=(6, 4, 3, 2)):
        """``groups`` counts layers: (1, 2, 1) is four layers, the middle two with one activation quantizer."""
        rng = np.random.default_rng(seed)
        layers, weights, activations = [], {}, {}
        for g, size in enumerate(groups):
            group = f"quantizer{g}"
            activation_bits = (8,) if g in fixed_activations else candidates
            if g not in fixed_activations:
                # Mostly falling with the bits, as trained step sizes are, with some noise.
                activations[group] = {b: float(rng.uniform(0.5, 1.5) / 2**b) for b in candidates}
            for _ in range(size):
                name = f"layer{len(layers)}"
                weight_bits = (8,) if len(layers) in fixed_weights else candidates
                macs, count = (int(n) for n in rng.integers(1, 5000, 2))
                layers.append(Layer(name, macs, count, group, weight_bits, activation_bits))
                if len(weight_bits) > 1:
                    weights[name] = {b: float(rng.uniform(0.2, 1.8) / 2**b) for b in candidates}
        return IndicatorTable(LayerTable(tuple(layers)), weights, activations)

    return make


@pytest.fixture
def make_scores(make_indicators):
    def make(seed, groups, **layers):
        """Scores of ``make_indicators``' layers, of either sign and without any order."""
        rng = np.random.default_rng(seed)
        table = make_indicators(seed, groups, **layers).table
        pairs = {x.name: itertools.product(x.weight_bits, x.activation_bits) for x in table.layers if not x.is_fixed}
        return PairScoreTable(table, {name: {p: float(rng.normal()) for p in own} for name, own in pairs.items()})

    return make


def group_objective(indicators, alpha, group, pairs, activation_bits):
    """What a group contributes with these (layer, weight bits)."""
    if isinstance(indicators, PairScoreTable):
        return sum(indicators.scores[x.name][w, activation_bits] for x, w in pairs if not x.is_fixed)
    own = indicators.activations[group][activation_bits] if len(pairs[0][0].activation_bits) > 1 else 0.0
    return own + alpha * sum(indicators.weights[x.name][w] for x, w in pairs if len(x.weight_bits) > 1)


@pytest.fixture
def enumerate_policies():
    def enumerate_all(indicators, alpha, costs):
        """
        Returns the objective of every policy, shape ``(N,)``, and its ``costs`` (functions of layer, w, a), ``(K, N)``.
        """
        objective, used = np.zeros(1), np.zeros((len(costs), 1), int)
        for group, layers in indicators.table.groups.items():
            terms, usage = [], []
            for a in layers[0].activation_bits:
                for chosen in itertools.product(*(layer.weight_bits for layer in layers)):
                    pairs = list(zip(layers, chosen, strict=True))
                    terms.append(group_objective(indicators, alpha, group, pairs, a))
                    usage.append([sum(cost(layer, w, a) for layer, w in pairs) for cost in costs])
            objective = np.add.outer(objective, terms).ravel()
            used = (used[:, :, None] + np.array(usage).T[:, None, :]).reshape(len(costs), -1)
        return objective, used

    return enumerate_all
