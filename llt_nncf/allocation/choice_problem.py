"""The search as arrays: one choice of bits per activation group and layer, one row per limit."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
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
    not have, or may not take, has an infinite term. Costs are on the lattice of their limit: less the layer's smallest
    cost, divided by the greatest common divisor. They are whole numbers, exact in float64 below 2**53.

    :param layers: The layers, those of a group side by side.
    :param group_of: Group of every layer, ascending, shape ``(L,)``.
    :param terms: Shape ``(L, A, W)``.
    :param costs: Shape ``(K, L, A, W)``.
    :param limits: Shape ``(K,)``, K may be 0; negative if a limit is below the sum of the smallest costs.
    :param steps: Cost of one lattice step, shape ``(K,)``.
    :param smallest: What the layers' smallest costs add up to, shape ``(K,)``.
    """

    layers: tuple[Layer, ...]
    group_of: Integers
    terms: Floats
    costs: Floats
    limits: Floats
    steps: Integers
    smallest: Integers

    @cached_property
    def starts(self) -> Integers:
        """First layer of every group, shape ``(G,)``."""
        return np.flatnonzero(np.diff(self.group_of, prepend=-1))

    @cached_property
    def magnitude(self) -> float:
        """How large an objective can be; differences far below it are rounding."""
        return float(np.abs(np.where(np.isfinite(self.terms), self.terms, 0.0)).max(axis=(1, 2)).sum())

    def with_limits(self, limits: Sequence[Limit]) -> "ChoiceProblem":
        """Returns the problem with other limits of the same costs."""
        totals = np.array([limit.limit for limit in limits], np.int64)
        return replace(self, limits=((totals - self.smallest) // self.steps).astype(float))

    def used(self, choice: Choice) -> Floats:
        """Returns what ``choice`` costs, in lattice steps, shape ``(K,)``."""
        rows = np.arange(len(self.layers))
        return self.costs[:, rows, choice.activations[self.group_of], choice.weights].sum(axis=1)

    def totals(self, choice: Choice) -> list[int]:
        """Returns the same in the integers of the limits, as ``Limit.in_unit`` takes them."""
        used = self.used(choice).tolist()
        return [
            int(steps) * step + smallest
            for steps, step, smallest in zip(used, self.steps.tolist(), self.smallest.tolist(), strict=True)
        ]

    def objective(self, choice: Choice) -> float:
        """Returns the sum of the chosen terms."""
        rows = np.arange(len(self.layers))
        return float(self.terms[rows, choice.activations[self.group_of], choice.weights].sum())

    def choice(self, bits: Mapping[str, tuple[int, int]]) -> Choice:
        """Returns the positions of a policy that fits the layers; the inverse of ``bits``."""
        pairs = [bits[layer.name] for layer in self.layers]
        positions = [
            (layer.weight_bits.index(w), layer.activation_bits.index(a))
            for layer, (w, a) in zip(self.layers, pairs, strict=True)
        ]
        weights, activations = np.array(positions).T
        return Choice(weights, activations[self.starts])

    def bits(self, choice: Choice) -> dict[str, tuple[int, int]]:
        """Returns (weight bits, activation bits) of every layer by name."""
        return {
            layer.name: (layer.weight_bits[w], layer.activation_bits[a])
            for layer, w, a in zip(self.layers, choice.weights, choice.activations[self.group_of], strict=True)
        }


def build_problem(
    indicators: IndicatorTable | PairScoreTable,
    limits: Sequence[Limit],
    alpha: float,
    allowed: Mapping[str, NDArray[np.bool_]] | None = None,
) -> ChoiceProblem:
    """
    Puts indicators and limits into arrays; a kind that is fixed has the term 0.

    :param indicators: Layers with their indicators, or with scores of whole pairs.
    :param limits: The limits.
    :param alpha: Factor on the weights' indicators; without effect on pair scores.
    :param allowed: By layer name which pairs may be chosen, shape (activation bits, weight bits); by default all.
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
        if allowed is not None:
            row[:a, :w][~allowed[layer.name]] = np.inf

    costs = np.zeros((len(limits), *shape), np.int64)
    smallest = np.zeros(len(limits), np.int64)
    steps = np.ones(len(limits), np.int64)
    for k, limit in enumerate(limits):
        for row, layer, (a, w) in zip(costs[k], layers, sizes, strict=True):
            values = limit.cost(layer, np.array(layer.weight_bits), np.array(layer.activation_bits)[:, None])
            values = np.broadcast_to(values, (a, w))
            smallest[k] += values.min()
            row[:a, :w] = values - values.min()
        steps[k] = max(1, np.gcd.reduce(costs[k], axis=None))
        costs[k] //= steps[k]
    unlimited = ChoiceProblem(layers, group_of, terms, costs.astype(float), np.zeros(len(limits)), steps, smallest)
    return unlimited.with_limits(limits)


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
