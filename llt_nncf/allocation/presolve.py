"""Everything that can be said about the search before a solver is called."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.allocation.lagrangian import maximize_bound
from llt_nncf.allocation.repair import repair


@dataclass(frozen=True)
class Presolved:
    """
    What the Lagrangian relaxation proves.

    :param bound: No policy within the limits has a smaller objective.
    :param multipliers: Price of one lattice step of each limit, shape ``(K,)``; 0 where the limit does not press.
    :param start: A good policy within the limits, or ``None`` if none was found.
    :param open_columns: Whether (layer, activation bits, weight bits) may be part of an optimum, shape ``(L, A, W)``.
    """

    bound: float
    multipliers: Floats
    start: Choice | None
    open_columns: NDArray[np.bool_]


def presolve(problem: ChoiceProblem) -> Presolved:
    """
    Bounds the objective from below and above, and closes the columns that no optimum can contain.

    A policy with a column has at least the objective ``bound + detour``; where that exceeds the objective of a known
    policy (by more than rounding), the column is closed. Without a known policy all stay open.
    """
    relaxed = maximize_bound(problem)
    start = repair(problem, relaxed)
    detour_limit = float(np.finfo(float).max)
    if start is not None:
        objective = problem.objective(start)
        rounding = 1e-9 * (problem.magnitude + relaxed.multipliers @ problem.limits)
        detour_limit = float(objective - relaxed.bound + rounding)
    return Presolved(relaxed.bound, relaxed.multipliers, start, relaxed.detours <= detour_limit)
