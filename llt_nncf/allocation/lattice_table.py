"""The exact frontier over one additive cost, by dynamic programming over its lattice."""

import numpy as np

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.allocation.choice_problem import Integers

MAX_CELLS = 2**25  # floats, 256 MiB


def lattice_cells(problem: ChoiceProblem) -> float:
    """Returns how many floats the table of a problem with one limit takes."""
    sizes = np.bincount(problem.group_of)
    tables = len(sizes) + (sizes[sizes > 1] - 1).sum() * problem.terms.shape[1]
    return float((problem.limits[0] + 1) * tables)


class LatticeTable:
    """
    The smallest objective at every limit from 0 to the problem's own, with the policies that reach them.

    A group's layers share their activation bits, so there is a table for each of these, and the group takes the best.

    :param problem: A problem with one limit, not negative; ``lattice_cells`` should be below ``MAX_CELLS``.
    """

    def __init__(self, problem: ChoiceProblem):
        self._problem = problem
        self._costs = problem.costs[0].astype(np.int64)
        ends = np.append(problem.starts[1:], len(problem.layers)).tolist()
        self._groups = list(zip(problem.starts.tolist(), ends, strict=True))
        # What is known in front of every layer, by activation bits; in front of a group they all are the same array.
        self._before: dict[tuple[int, int], Floats] = {}
        best: Floats = np.zeros(int(problem.limits[0]) + 1)
        for start, end in self._groups:
            group_best = np.full_like(best, np.inf)
            for a in self._activations(start, end):
                table = best
                for layer in range(start, end):
                    self._before[layer, a] = table
                    table = self._extend(table, layer, a)
                np.minimum(group_best, table, out=group_best)
            best = group_best
        self.objectives = best

    def corners(self) -> Integers:
        """Returns the limits at which the objective falls: the Pareto points, ascending."""
        reachable = np.flatnonzero(np.isfinite(self.objectives))
        falls = np.diff(self.objectives[reachable]) < -1e-13 * self._problem.magnitude
        return np.concatenate([reachable[:1], reachable[1:][falls]])

    def choices(self, limits: Integers) -> list[Choice]:
        """Returns the best policies at ``limits``, at which the objective must be finite."""
        problem = self._problem
        weights = np.zeros((len(problem.layers), len(limits)), np.int64)
        activations = np.zeros((len(self._groups), len(limits)), np.int64)
        left = limits
        for group in reversed(range(len(self._groups))):
            start, end = self._groups[group]
            least: Floats = np.full(len(limits), np.inf)
            left_below = left
            for a in self._activations(start, end):
                objectives, chosen, left_here = self._decide_group(left, start, end, a)
                better = objectives < least
                least = np.where(better, objectives, least)
                left_below = np.where(better, left_here, left_below)
                activations[group, better] = a
                weights[start:end, better] = chosen[:, better]
            left = left_below
        return [Choice(*columns) for columns in zip(weights.T, activations.T, strict=True)]

    def _decide_group(self, left: Integers, start: int, end: int, a: int) -> tuple[Floats, Integers, Integers]:
        """Returns objectives, weight bits of the group's layers, and what is left for the groups before it."""
        chosen = np.zeros((end - start, len(left)), np.int64)
        objectives = np.zeros(len(left))
        for layer in reversed(range(start, end)):
            rest = left[:, None] - self._costs[layer, a]
            before = self._before[layer, a][np.maximum(rest, 0)]
            values = np.where(rest >= 0, before, np.inf) + self._problem.terms[layer, a]
            chosen[layer - start] = values.argmin(axis=1)
            objectives = values.min(axis=1) if layer == end - 1 else objectives
            left = np.maximum(rest[np.arange(len(left)), chosen[layer - start]], 0)
        return objectives, chosen, left

    def _activations(self, start: int, end: int) -> list[int]:
        may = np.isfinite(self._problem.terms[start:end]).any(axis=2).all(axis=0)
        return np.flatnonzero(may).tolist()

    def _extend(self, table: Floats, layer: int, a: int) -> Floats:
        result = np.full_like(table, np.inf)
        for cost, term in zip(self._costs[layer, a], self._problem.terms[layer, a], strict=True):
            if np.isfinite(term) and cost < len(table):
                np.minimum(result[cost:], table[: len(table) - cost] + term, out=result[cost:])
        return result
