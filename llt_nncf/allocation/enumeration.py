"""Every policy that may still be optimal, built layer by layer; the best of them where they are too many."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.allocation.choice_problem import Integers
from llt_nncf.allocation.lagrangian import Relaxed
from llt_nncf.allocation.lagrangian import relax

# Prices around the best ones. Each gives a bound of its own; where a half-built policy has used more than its share of
# a limit, or less, the bound at a higher, or lower, price is the one that shuts it out.
_PRICE_FACTORS = (1.1, 0.9)


@dataclass(frozen=True)
class Enumerated:
    """
    Policies within the limits, with an objective up to the ceiling.

    :param choices: The best of them, the best first.
    :param is_complete: Whether no policy was dropped, so that these are the best of all.
    """

    choices: tuple[Choice, ...]
    is_complete: bool


@dataclass(frozen=True)
class _Partial:
    """
    Policies that are decided for some layers (N).

    :param bounds: Least objective of what each can become, by price vector, shape ``(M, N)``.
    :param used: Shape ``(K, N)``.
    :param activations: Position of the activation bits of the group that was decided last, shape ``(N,)``.
    """

    bounds: Floats
    used: Floats
    activations: Integers


_Columns = tuple[Integers, Integers, Integers]  # positions of layers, activation bits, weight bits


class _Decision(NamedTuple):
    """What every partial policy takes for one layer, and which partial policy it extends; shapes ``(N,)``."""

    layer: int
    parents: Integers
    activations: Integers
    weights: Integers


def nearby_relaxations(problem: ChoiceProblem, relaxed: Relaxed) -> list[Relaxed]:
    """Returns the relaxation at the best prices, and those at prices around them."""
    result = [relaxed]
    for k in np.flatnonzero(relaxed.multipliers):
        for factor in _PRICE_FACTORS:
            multipliers = relaxed.multipliers.copy()
            multipliers[k] *= factor
            result.append(relax(problem, multipliers))
    return result


def open_columns(problem: ChoiceProblem, relaxations: Sequence[Relaxed], ceiling: float) -> NDArray[np.bool_]:
    """
    Returns whether (layer, activation bits, weight bits) may be part of a policy up to the ceiling, ``(L, A, W)``.

    A policy with a column has at least the objective ``bound + detour``, at any prices.
    """
    most = _with_rounding(problem, relaxations[0], ceiling)
    return np.logical_and.reduce([relaxed.detours <= most - relaxed.bound for relaxed in relaxations])


def enumerate_policies(
    problem: ChoiceProblem,
    relaxations: Sequence[Relaxed],
    columns: NDArray[np.bool_],
    *,
    ceiling: float,
    width: int,
    count: int,
) -> Enumerated:
    """
    Extends all partial policies by one layer after the other, and drops those whose bound exceeds the ceiling.

    :param problem: The problem.
    :param relaxations: Its relaxations, the one at the best prices first.
    :param columns: What is open up to the ceiling.
    :param ceiling: Largest objective of interest; may be infinite.
    :param width: Most partial policies that are kept; of more, those with the smallest bounds are.
    :param count: Most policies that are returned.
    """
    most = _with_rounding(problem, relaxations[0], ceiling)
    is_first = np.zeros(len(problem.layers), bool)
    is_first[problem.starts] = True
    lost = np.stack(
        [np.where(is_first[:, None, None], relaxed.detours, relaxed.weight_detours) for relaxed in relaxations]
    )
    only, free = _only_columns(problem, columns)
    layers, a, w = only
    bounds = np.array([relaxed.bound for relaxed in relaxations])
    partial = _Partial(
        (bounds + lost[:, layers, a, w].sum(axis=1))[:, None],
        problem.costs[:, layers, a, w].sum(axis=1)[:, None],
        np.zeros(1, np.int64),
    )
    trail: list[_Decision] = []
    is_complete = True
    for layer in free:
        a, w = np.nonzero(columns[layer])
        grown = (partial.bounds[:, :, None] + lost[:, layer, a, w][:, None, :]).reshape(len(bounds), -1)
        used = partial.used[:, :, None] + problem.costs[:, layer, a, w][:, None, :]
        used = used.reshape(len(problem.limits), -1)
        worst = grown.max(axis=0)
        allowed = (worst <= most) & (used <= problem.limits[:, None]).all(axis=0)
        if not is_first[layer]:
            allowed &= (partial.activations[:, None] == a).ravel()
        kept = np.flatnonzero(allowed)
        if len(kept) > width:
            is_complete = False
            kept = kept[np.sort(np.argpartition(worst[kept], width)[:width])]
        parents, column = np.divmod(kept, max(len(a), 1))
        partial = _Partial(grown[:, kept], used[:, kept], a[column])
        trail.append(_Decision(layer, parents, a[column], w[column]))
    slack = problem.limits[:, None] - partial.used
    within = np.flatnonzero((slack >= 0).all(axis=0))
    objectives = partial.bounds[0, within] + relaxations[0].multipliers @ slack[:, within]
    best = within[np.argsort(objectives, kind="stable")[:count]]
    choices = sorted(_retrace(problem, only, trail, best), key=problem.objective)
    return Enumerated(tuple(choices), is_complete)


def _with_rounding(problem: ChoiceProblem, relaxed: Relaxed, ceiling: float) -> float:
    rounding = 1e-9 * float(problem.magnitude + relaxed.multipliers @ problem.limits)
    return min(ceiling + rounding, sys.float_info.max)


def _only_columns(problem: ChoiceProblem, columns: NDArray[np.bool_]) -> tuple[_Columns, list[int]]:
    """
    Returns the columns of the layers of groups that have nothing left to choose, and the other layers in the order in
    which to decide them: groups with few columns first, the layers of a group side by side.
    """
    counts = columns.sum(axis=(1, 2))
    of_group = np.add.reduceat(counts, problem.starts)[problem.group_of]
    is_free = np.maximum.reduceat(counts, problem.starts)[problem.group_of] != 1
    layers, a, w = np.nonzero(columns & ~is_free[:, None, None])
    order = np.lexsort((problem.group_of, of_group))
    return (layers, a, w), order[is_free[order]].tolist()


def _retrace(problem: ChoiceProblem, only: _Columns, trail: Sequence[_Decision], last: Integers) -> list[Choice]:
    """Follows the policies at the positions ``last`` back through their decisions."""
    weights = np.zeros((len(last), len(problem.layers)), np.int64)
    activations = np.zeros((len(last), len(problem.starts)), np.int64)
    layers, a, w = only
    weights[:, layers] = w
    activations[:, problem.group_of[layers]] = a
    for decision in reversed(trail):
        weights[:, decision.layer] = decision.weights[last]
        activations[:, problem.group_of[decision.layer]] = decision.activations[last]
        last = decision.parents[last]
    return [Choice(*row) for row in zip(weights, activations, strict=True)]
