"""From the cheapest policy at given prices to a policy within the limits, one group at a time."""

from dataclasses import dataclass

import numpy as np

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.allocation.choice_problem import Integers
from llt_nncf.allocation.lagrangian import Relaxed


@dataclass(frozen=True)
class _Moves:
    """
    All ways (M) to set a group: a layer takes (activation bits, weight bits), and the other layers of its group their
    cheapest weight bits for these activation bits.

    :param columns: Positions of layer, activation bits and weight bits, shape ``(M, 3)``.
    :param group: Shape ``(M,)``.
    :param terms: Objective of the whole group, shape ``(M,)``.
    :param used: Cost of the whole group, shape ``(K, M)``.
    :param detours: What the move loses at the relaxation's prices, shape ``(M,)``.
    """

    columns: Integers
    group: Integers
    terms: Floats
    used: Floats
    detours: Floats


def repair(problem: ChoiceProblem, relaxed: Relaxed) -> Choice | None:
    """
    Starts from the relaxation's choice and meets the limits.

    :param problem: The problem.
    :param relaxed: Its relaxation.
    :return: A policy within the limits, or ``None`` if none was found, which proves nothing.
    """
    moves = _moves(problem, relaxed)
    nearest = np.lexsort((moves.detours, moves.group))
    taken = nearest[np.flatnonzero(np.diff(moves.group[nearest], prepend=-1))]
    if not _meet_limits(problem, moves, taken):
        return None
    layer, activations, weight = moves.columns[taken].T
    weights = relaxed.best_weights[np.arange(len(problem.layers)), activations[problem.group_of]]
    weights[layer] = weight
    return Choice(weights, activations)


def _meet_limits(problem: ChoiceProblem, moves: _Moves, taken: Integers) -> bool:
    """Makes the move that loses least per violation removed, in place, until nothing is violated."""
    limits = problem.limits[:, None]
    scale = np.maximum(limits, 1.0)
    while True:
        total = moves.used[:, taken].sum(axis=1, keepdims=True)
        violation = (np.maximum(total - limits, 0.0) / scale).sum()
        if violation == 0:
            return True
        total_after = total + moves.used - moves.used[:, taken[moves.group]]
        gain = violation - (np.maximum(total_after - limits, 0.0) / scale).sum(axis=0)
        helpful = np.flatnonzero(gain > 1e-12)
        if len(helpful) == 0:
            return False
        loss = (moves.terms - moves.terms[taken[moves.group]])[helpful] / gain[helpful]
        best = helpful[loss.argmin()]
        taken[moves.group[best]] = best


def _moves(problem: ChoiceProblem, relaxed: Relaxed) -> _Moves:
    rows = np.arange(len(problem.layers))[:, None]
    activations = np.arange(problem.terms.shape[1])
    terms = problem.terms[rows, activations, relaxed.best_weights]
    used = problem.costs[:, rows, activations, relaxed.best_weights]
    group_terms = np.add.reduceat(terms, problem.starts, axis=0)
    group_used = np.add.reduceat(used, problem.starts, axis=1)

    columns = np.argwhere(np.isfinite(relaxed.detours))
    layer, a, w = columns.T
    group = problem.group_of[layer]
    return _Moves(
        columns,
        group,
        group_terms[group, a] - terms[layer, a] + problem.terms[layer, a, w],
        group_used[:, group, a] - used[:, layer, a] + problem.costs[:, layer, a, w],
        relaxed.detours[layer, a, w],
    )
