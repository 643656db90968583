"""The search as arrays: one choice of bits per activation group and layer, one row per limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llt_nncf.artifacts.indicator_table import IndicatorTable
from llt_nncf.artifacts.layer_table import Layer
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
    Minimise ``sum_g activation_terms[g, a_g] + sum_l weight_terms[l, w_l]`` with, for every limit ``k``,
    ``sum_l costs[k, l, a_g(l), w_l] <= limits[k]``.

    Layers (L) are ordered by their groups (G); A and W are the largest numbers of candidates. A position beyond a
    layer's candidates has an infinite term and costs 0. Costs are on the lattice of their limit: less the layer's
    smallest cost, divided by the greatest common divisor. They are whole numbers, exact in float64 below 2**53.

    :param layers: The layers, those of a group side by side.
    :param group_of: Group of every layer, ascending, shape ``(L,)``.
    :param weight_terms: Shape ``(L, W)``.
    :param activation_terms: Shape ``(G, A)``.
    :param costs: Shape ``(K, L, A, W)``.
    :param limits: Shape ``(K,)``; negative if a limit is below the sum of the smallest costs.
    :param steps: Cost of one lattice step, shape ``(K,)``.
    """

    layers: tuple[Layer, ...]
    group_of: Integers
    weight_terms: Floats
    activation_terms: Floats
    costs: Floats
    limits: Floats
    steps: Integers

    @cached_property
    def starts(self) -> Integers:
        """First layer of every group, shape ``(G,)``."""
        return np.flatnonzero(np.diff(self.group_of, prepend=-1))

    def used(self, choice: Choice) -> Floats:
        """Returns what ``choice`` costs, shape ``(K,)``."""
        rows = np.arange(len(self.layers))
        return self.costs[:, rows, choice.activations[self.group_of], choice.weights].sum(axis=1)

    def objective(self, choice: Choice) -> float:
        """Returns the sum of the chosen terms."""
        groups, rows = np.arange(len(self.starts)), np.arange(len(self.layers))
        chosen = self.activation_terms[groups, choice.activations].sum() + self.weight_terms[rows, choice.weights].sum()
        return float(chosen)

    def bits(self, choice: Choice) -> dict[str, tuple[int, int]]:
        """Returns (weight bits, activation bits) of every layer by name."""
        return {
            layer.name: (layer.weight_bits[w], layer.activation_bits[a])
            for layer, w, a in zip(self.layers, choice.weights, choice.activations[self.group_of], strict=True)
        }


def build_problem(indicators: IndicatorTable, limits: Sequence[Limit], alpha: float) -> ChoiceProblem:
    """
    Puts indicators and limits into arrays; a kind that is fixed has the term 0.

    :param indicators: Layers and indicators.
    :param limits: The limits, at least one.
    :param alpha: Factor on the weights' indicators.
    """
    groups = indicators.table.groups
    layers = tuple(layer for members in groups.values() for layer in members)
    group_of = np.repeat(np.arange(len(groups)), [len(members) for members in groups.values()])
    weight_terms = np.full((len(layers), max(len(layer.weight_bits) for layer in layers)), np.inf)
    activation_terms = np.full((len(groups), max(len(layer.activation_bits) for layer in layers)), np.inf)
    for terms, (name, members) in zip(activation_terms, groups.items(), strict=True):
        candidates = members[0].activation_bits
        values = indicators.activations[name] if len(candidates) > 1 else {candidates[0]: 0.0}
        terms[: len(candidates)] = [values[bits] for bits in candidates]
    for terms, layer in zip(weight_terms, layers, strict=True):
        values = indicators.weights[layer.name] if len(layer.weight_bits) > 1 else {layer.weight_bits[0]: 0.0}
        terms[: len(layer.weight_bits)] = [alpha * values[bits] for bits in layer.weight_bits]

    costs = np.zeros((len(limits), len(layers), activation_terms.shape[1], weight_terms.shape[1]), np.int64)
    on_lattice = np.zeros(len(limits), np.int64)
    steps = np.ones(len(limits), np.int64)
    for k, limit in enumerate(limits):
        smallest = 0
        for row, layer in zip(costs[k], layers, strict=True):
            values_of = np.array([[limit.cost(layer, w, a) for w in layer.weight_bits] for a in layer.activation_bits])
            smallest += int(values_of.min())
            row[: values_of.shape[0], : values_of.shape[1]] = values_of - values_of.min()
        steps[k] = max(1, np.gcd.reduce(costs[k], axis=None))
        costs[k] //= steps[k]
        on_lattice[k] = (limit.limit - smallest) // int(steps[k])
    return ChoiceProblem(
        layers, group_of, weight_terms, activation_terms, costs.astype(float), on_lattice.astype(float), steps
    )
