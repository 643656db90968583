"""The open columns, solved to proof with OR-Tools CP-SAT; the only importer of ortools."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ortools.sat.python import cp_model

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.presolve import Presolved

Column = tuple[int, int, int]  # positions: layer, activation bits, weight bits
GroupBits = tuple[int, int]  # positions: group, activation bits

_RESOLUTION_BITS = 45  # the sum of all magnitudes counts less than 2**45 units


@dataclass(frozen=True)
class CoreResult:
    """
    What the solver says.

    :param status: Its word, for example ``OPTIMAL`` or ``FEASIBLE``.
    :param choice: The best policy found, or ``None``.
    :param bound: No policy of the open columns has a smaller objective; minus infinity if nothing is known.
    """

    status: str
    choice: Choice | None
    bound: float


def solve_core(problem: ChoiceProblem, presolved: Presolved, *, time_limit_s: float) -> CoreResult:
    """
    Solves the problem restricted to its open columns.

    One literal per column (layer, activation bits, weight bits). A layer with its own activation quantizer takes
    exactly one of its columns. Where layers share one, exactly one literal of (group, activation bits) is taken, and
    each of the layers has as many columns with these activation bits. Terms are rounded down to integers, so the
    solver's bound holds in real units too.

    :param problem: The problem.
    :param presolved: Its open columns, and the policy to start from.
    :param time_limit_s: Wall time in seconds, positive.
    """
    model = cp_model.CpModel()
    columns = {
        (int(layer), int(a), int(w)): model.new_bool_var(f"x_{layer}_{a}_{w}")
        for layer, a, w in np.argwhere(presolved.open_columns)
    }
    groups = _add_choices(model, problem, columns)
    keys = tuple(np.array(list(columns)).T)
    for costs, limit in zip(problem.costs, problem.limits, strict=True):
        used = cp_model.LinearExpr.weighted_sum(list(columns.values()), costs[keys].astype(np.int64).tolist())
        model.add(used <= int(limit))
    terms = problem.terms[keys]
    scale = 2.0 ** (_RESOLUTION_BITS - math.frexp(np.abs(terms).sum())[1])
    floored = np.floor(terms * scale).astype(np.int64).tolist()
    model.minimize(cp_model.LinearExpr.weighted_sum(list(columns.values()), floored))
    if presolved.start is not None:
        _add_hints(model, problem, presolved.start, columns, groups)

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2  # a third faster: the relaxation is nearly all of the proof
    solver.parameters.max_time_in_seconds = time_limit_s
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return CoreResult(solver.status_name(status), None, -math.inf)
    choice = Choice(np.zeros(len(problem.layers), np.int64), np.zeros(len(problem.starts), np.int64))
    for (layer, a, w), literal in columns.items():
        if solver.boolean_value(literal):
            choice.weights[layer], choice.activations[problem.group_of[layer]] = w, a
    return CoreResult(solver.status_name(status), choice, solver.best_objective_bound / scale)


def _add_choices(
    model: cp_model.CpModel, problem: ChoiceProblem, columns: Mapping[Column, cp_model.IntVar]
) -> dict[GroupBits, cp_model.IntVar]:
    """Adds what ties the columns; returns the literals of the shared groups."""
    sizes = np.bincount(problem.group_of)
    own: dict[int, list[cp_model.IntVar]] = {}
    shared: dict[tuple[int, int], list[cp_model.IntVar]] = {}
    for (layer, a, _), literal in columns.items():
        if sizes[problem.group_of[layer]] == 1:
            own.setdefault(layer, []).append(literal)
        else:
            shared.setdefault((layer, a), []).append(literal)
    groups: dict[GroupBits, cp_model.IntVar] = {}
    of_group: dict[int, list[cp_model.IntVar]] = {}
    for (layer, a), literals in shared.items():
        group = int(problem.group_of[layer])
        if (group, a) not in groups:
            groups[group, a] = model.new_bool_var(f"y_{group}_{a}")
            of_group.setdefault(group, []).append(groups[group, a])
        model.add(sum(literals) == groups[group, a])
    for literals in [*own.values(), *of_group.values()]:
        model.add_exactly_one(literals)
    return groups


def _add_hints(
    model: cp_model.CpModel,
    problem: ChoiceProblem,
    start: Choice,
    columns: Mapping[Column, cp_model.IntVar],
    groups: Mapping[GroupBits, cp_model.IntVar],
) -> None:
    for (layer, a, w), literal in columns.items():
        is_taken = start.weights[layer] == w and start.activations[problem.group_of[layer]] == a
        model.add_hint(literal, bool(is_taken))
    for (group, a), literal in groups.items():
        model.add_hint(literal, bool(start.activations[group] == a))
