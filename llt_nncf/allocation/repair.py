"""From the cheapest policy at given prices to a good policy within the limits, one or two groups at a time."""

from dataclasses import dataclass

import numpy as np

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.allocation.choice_problem import Integers
from llt_nncf.allocation.lagrangian import Relaxed

_PAIRED_MOVES = 200
_MAX_PAIRS_TAKEN = 200


@dataclass(frozen=True)
class _Moves:
    """
    All ways (M) to set a group: a layer takes (activation bits, weight bits), and the other layers of its group their
    best known weight bits for these activation bits.

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
    moves = _moves(problem, relaxed.detours, relaxed.best_weights)
    nearest = np.lexsort((moves.detours, moves.group))
    taken = nearest[np.flatnonzero(np.diff(moves.group[nearest], prepend=-1))]
    return _choice(problem, moves, taken, relaxed.best_weights) if _meet_limits(problem, moves, taken) else None


def improve(problem: ChoiceProblem, relaxed: Relaxed, choice: Choice) -> Choice:
    """
    Sets one or two groups anew, as long as that lowers the objective within the limits.

    :param problem: The problem.
    :param relaxed: Its relaxation, which says what is worth trying.
    :param choice: A policy within the limits.
    """
    activations = choice.activations[problem.group_of]
    best_weights = relaxed.best_weights.copy()
    best_weights[np.arange(len(problem.layers)), activations] = choice.weights
    moves = _moves(problem, relaxed.detours, best_weights)
    layer, a, w = moves.columns.T
    as_it_is = np.flatnonzero((a == activations[layer]) & (w == choice.weights[layer]))
    taken = as_it_is[np.unique(moves.group[as_it_is], return_index=True)[1]]
    _exchange_pairs(problem, moves, taken)
    return _choice(problem, moves, taken, best_weights)


def _choice(problem: ChoiceProblem, moves: _Moves, taken: Integers, best_weights: Integers) -> Choice:
    layer, activations, weight = moves.columns[taken].T
    weights = best_weights[np.arange(len(problem.layers)), activations[problem.group_of]]
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


def _exchange_pairs(problem: ChoiceProblem, moves: _Moves, taken: Integers) -> None:
    """Makes the best one or two moves within the limits, in place, as long as the objective falls."""
    for _ in range(_MAX_PAIRS_TAKEN):
        room = problem.limits - moves.used[:, taken].sum(axis=1)
        change = moves.terms - moves.terms[taken[moves.group]]
        change_used = moves.used - moves.used[:, taken[moves.group]]
        is_move = (change != 0) | (change_used != 0).any(axis=0)
        near = np.flatnonzero(is_move)[np.argsort(moves.detours[is_move], kind="stable")[:_PAIRED_MOVES]]
        # The last row and column stand for no move, so that single moves are among the pairs.
        total = np.add.outer(np.append(change[near], 0.0), np.append(change[near], 0.0))
        group = np.append(moves.group[near], -1)
        allowed = group[:, None] != group
        for row, most in zip(change_used[:, near], room, strict=True):
            allowed &= np.add.outer(np.append(row, 0.0), np.append(row, 0.0)) <= most
        total[~allowed] = 0.0
        first, second = np.unravel_index(total.argmin(), total.shape)
        if total[first, second] >= -1e-12 * problem.magnitude:
            return
        for index in (first, second):
            if index < len(near):
                taken[group[index]] = near[index]


def _moves(problem: ChoiceProblem, detours: Floats, best_weights: Integers) -> _Moves:
    rows = np.arange(len(problem.layers))[:, None]
    activations = np.arange(problem.terms.shape[1])
    terms = problem.terms[rows, activations, best_weights]
    used = problem.costs[:, rows, activations, best_weights]
    group_terms = np.add.reduceat(terms, problem.starts, axis=0)
    group_used = np.add.reduceat(used, problem.starts, axis=1)

    columns = np.argwhere(np.isfinite(detours))
    layer, a, w = columns.T
    group = problem.group_of[layer]
    return _Moves(
        columns,
        group,
        group_terms[group, a] - terms[layer, a] + problem.terms[layer, a, w],
        group_used[:, group, a] - used[:, layer, a] + problem.costs[:, layer, a, w],
        detours[layer, a, w],
    )
