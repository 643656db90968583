"""Everything that can be said about the search before a solver is called; often that is all."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.allocation.enumeration import enumerate_policies
from llt_nncf.allocation.enumeration import nearby_relaxations
from llt_nncf.allocation.enumeration import open_columns
from llt_nncf.allocation.lagrangian import maximize_bound
from llt_nncf.allocation.repair import improve
from llt_nncf.allocation.repair import repair

# The first pass lowers the ceiling. A second and wider one can be expected to be complete if few columns are left open
# beside one for each layer; where more are, the solver is faster.
_WIDTHS = (300, 1000)
_FEW_COLUMNS = 0.8  # per layer


@dataclass(frozen=True)
class Presolved:
    """
    What the Lagrangian relaxation proves.

    :param bound: No policy within the limits has a smaller objective.
    :param multipliers: Price of one lattice step of each limit, shape ``(K,)``; 0 where the limit does not press.
    :param choices: Good policies within the limits, the best first.
    :param is_complete: Whether these are proven to be the best ones, or, if fewer than asked for, all that there are.
    :param open_columns: Whether (layer, activation bits, weight bits) may be part of one of the best policies, shape
        ``(L, A, W)``.
    """

    bound: float
    multipliers: Floats
    choices: tuple[Choice, ...]
    is_complete: bool
    open_columns: NDArray[np.bool_]


def presolve(
    problem: ChoiceProblem, *, count: int = 1, tolerance: float = 0.0, near: Floats | None = None
) -> Presolved:
    """
    Bounds the objective from below and above, and closes the columns that none of the best policies can contain.

    A policy with a column has at least the objective ``bound + detour``; where that exceeds the objective of a known
    policy (by more than rounding), the column is closed. Without a known policy all stay open.

    :param problem: The problem.
    :param count: How many of the best policies are wanted.
    :param tolerance: Relative gap at which the one policy that is wanted is good enough.
    :param near: Multipliers of a similar problem.
    """
    relaxed = maximize_bound(problem, near)
    start = repair(problem, relaxed)
    columns = np.isfinite(problem.terms)
    choices: tuple[Choice, ...] = ()
    ceiling = math.inf
    if start is not None:
        choices = (improve(problem, relaxed, start),)
        ceiling = problem.objective(choices[0]) if count == 1 else math.inf
    if ceiling - relaxed.bound <= 1e-13 * problem.magnitude:
        return Presolved(ceiling, relaxed.multipliers, choices, True, columns)
    relaxations = nearby_relaxations(problem, relaxed)
    columns = open_columns(problem, relaxations, ceiling)
    for width in _WIDTHS:
        if count == 1 and choices and ceiling - relaxed.bound <= tolerance * abs(ceiling):
            break
        found = enumerate_policies(problem, relaxations, columns, ceiling=ceiling, width=width, count=count)
        if found.is_complete:
            bound = problem.objective(found.choices[0]) if found.choices else relaxed.bound
            return Presolved(bound, relaxed.multipliers, found.choices, True, columns)
        if len(found.choices) == count:
            choices = found.choices if count > 1 else (improve(problem, relaxed, found.choices[0]),)
            ceiling = min(ceiling, problem.objective(choices[-1]))
            columns = open_columns(problem, relaxations, ceiling)
        if columns.sum() > (1 + _FEW_COLUMNS) * len(problem.layers):
            break
    return Presolved(relaxed.bound, relaxed.multipliers, choices, False, columns)
