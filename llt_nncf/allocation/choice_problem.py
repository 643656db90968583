"""The search as arrays: one choice of bits per activation group and layer, one row per limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llt_nncf.artifacts.indicator_table import IndicatorTable
from llt_nncf.artifacts.layer_table import Layer
from llt_nncf.artifacts.pair_score_table import PairScoreTable
from llt_nncf.cost.limit import Limit

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """
    One policy, as positions in the candidates.

    :param weights: Position of every layer's weight bits, shape ``(L,)``.
    :param activations: Position of every group's activation bits, shape ``(G,)``.
    """

    weights: Integers
    activations: Integers


@dataclass(frozen=True)
class ChoiceProblem:
    """
    Minimise ``sum_l terms[l, a_g(l), w_l]`` with ``sum_l costs[k, l, a_g(l), w_l] <= limits[k]`` for every limit ``k``.

    Layers (L) are ordered by their groups (G); A and W are the largest numbers of candidates. A pair that a layer does
    not have has an infinite term and costs 0. Costs are on the lattice of their limit: less the layer's smallest cost,
    divided by the greatest common divisor. They are whole numbers, exact in float64 below 2**53.

    :param layers: The layers, those of a group side by side.
    :param group_of: Group of every layer, ascending, shape ``(L,)``.
    :param terms: Shape ``(L, A, W)``.
    :param costs: Shape ``(K, L, A, W)``.
    :param limits: Shape ``(K,)``; negative if a limit is below the sum of the smallest costs.
    :param steps: Cost of one lattice step, shape ``(K,)``.
    """

    layers: tuple[Layer, ...]
    group_of: Integers
    terms: Floats
    costs: Floats
    limits: Floats
    steps: Integers

    @cached_property
    def starts(self) -> Integers:
        """First layer of every group, shape ``(G,)``."""
        return np.flatnonzero(np.diff(self.group_of, prepend=-1))

    @cached_property
    def magnitude(self) -> float:
        """How large an objective can be; differences far below it are rounding."""
        return float(np.abs(np.where(np.isfinite(self.terms), self.terms, 0.0)).max(axis=(1, 2)).sum())

    def used(self, choice: Choice) -> Floats:
        """Returns what ``choice`` costs, shape ``(K,)``."""
        rows = np.arange(len(self.layers))
        return self.costs[:, rows, choice.activations[self.group_of], choice.weights].sum(axis=1)

    def objective(self, choice: Choice) -> float:
        """Returns the sum of the chosen terms."""
        rows = np.arange(len(self.layers))
        return float(self.terms[rows, choice.activations[self.group_of], choice.weights].sum())

    def bits(self, choice: Choice) -> dict[str, tuple[int, int]]:
        """Returns (weight bits, activation bits) of every layer by name."""
        return {
            layer.name: (layer.weight_bits[w], layer.activation_bits[a])
            for layer, w, a in zip(self.layers, choice.weights, choice.activations[self.group_of], strict=True)
        }


def build_problem(indicators: IndicatorTable | PairScoreTable, limits: Sequence[Limit], alpha: float) -> ChoiceProblem:
    """
    Puts indicators and limits into arrays; a kind that is fixed has the term 0.

    :param indicators: Layers with their indicators, or with scores of whole pairs.
    :param limits: The limits, at least one.
    :param alpha: Factor on the weights' indicators; without effect on pair scores.
    """
    groups = indicators.table.groups
    layers = tuple(layer for members in groups.values() for layer in members)
    group_of = np.repeat(np.arange(len(groups)), [len(members) for members in groups.values()])
    sizes = [(len(layer.activation_bits), len(layer.weight_bits)) for layer in layers]
    shape = (len(layers), *np.max(sizes, axis=0))
    terms = np.full(shape, np.inf)
    for row, layer, (a, w) in zip(terms, layers, sizes, strict=True):
        if isinstance(indicators, PairScoreTable):
            row[:a, :w] = _pair_terms(indicators, layer)
        else:
            row[:a, :w] = _indicator_terms(indicators, layer, alpha)

    costs = np.zeros((len(limits), *shape), np.int64)
    on_lattice = np.zeros(len(limits), np.int64)
    steps = np.ones(len(limits), np.int64)
    for k, limit in enumerate(limits):
        smallest = 0
        for row, layer, (a, w) in zip(costs[k], layers, sizes, strict=True):
            values = np.array([[limit.cost(layer, w, a) for w in layer.weight_bits] for a in layer.activation_bits])
            smallest += int(values.min())
            row[:a, :w] = values - values.min()
        steps[k] = max(1, np.gcd.reduce(costs[k], axis=None))
        costs[k] //= steps[k]
        on_lattice[k] = (limit.limit - smallest) // int(steps[k])
    return ChoiceProblem(layers, group_of, terms, costs.astype(float), on_lattice.astype(float), steps)


def _indicator_terms(indicators: IndicatorTable, layer: Layer, alpha: float) -> Floats:
    """Shape (activation bits, weight bits). A group's activation indicator counts once: with its first layer."""
    of_weights, of_activations = np.zeros(len(layer.weight_bits)), np.zeros(len(layer.activation_bits))
    if len(layer.weight_bits) > 1:
        of_weights[:] = [alpha * indicators.weights[layer.name][bits] for bits in layer.weight_bits]
    is_first = indicators.table.groups[layer.activation_group][0] is layer
    if is_first and len(layer.activation_bits) > 1:
        of_activations[:] = [indicators.activations[layer.activation_group][bits] for bits in layer.activation_bits]
    return np.add.outer(of_activations, of_weights)


def _pair_terms(scores: PairScoreTable, layer: Layer) -> Floats:
    """Shape (activation bits, weight bits)."""
    if layer.is_fixed:
        return np.zeros((1, 1))
    values = scores.scores[layer.name]
    return np.array([[values[w, a] for w in layer.weight_bits] for a in layer.activation_bits])
