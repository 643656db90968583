"""The open columns, solved to proof with OR-Tools CP-SAT; the only importer of ortools."""

import math
import time
from dataclasses import dataclass

import numpy as np
from ortools.sat.python import cp_model

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.presolve import Presolved

_RESOLUTION_BITS = 45  # the sum of all magnitudes counts less than 2**45 units


@dataclass(frozen=True)
class CoreResult:
    """
    What the solver says.

    :param status: Its word for the last policy that was asked for, for example ``OPTIMAL`` or ``FEASIBLE``.
    :param choices: The best policies, the best first; those before the last one are proven.
    :param bound: No policy of the open columns has a smaller objective; minus infinity if nothing is known.
    """

    status: str
    choices: tuple[Choice, ...]
    bound: float


def solve_core(
    problem: ChoiceProblem, presolved: Presolved, *, time_limit_s: float, count: int = 1, tolerance: float = 0.0
) -> CoreResult:
    """
    Solves the problem restricted to its open columns; for the next best policy once more, without those found.

    :param problem: The problem.
    :param presolved: Its open columns, and the policy to start from.
    :param time_limit_s: Wall time in seconds for all of it, positive.
    :param count: How many of the best policies are wanted.
    :param tolerance: Relative gap at which the solver may stop.
    """
    end = time.perf_counter() + time_limit_s
    model = _CoreModel(problem, presolved)
    choices: list[Choice] = []
    bound = -math.inf
    status = "UNKNOWN"
    while len(choices) < count:
        # A limit of 0 would be none at all.
        solver = _solver(max(end - time.perf_counter(), 1e-6), tolerance)
        status = solver.status_name(solver.solve(model.model))
        if status not in ("OPTIMAL", "FEASIBLE"):
            break
        bound = bound if choices else solver.best_objective_bound / model.scale
        choices.append(model.choice(solver))
        if status == "FEASIBLE":
            break
        model.forbid(choices[-1])
    return CoreResult(status, tuple(choices), bound)


def _solver(time_limit_s: float, tolerance: float) -> cp_model.CpSolver:
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2  # a third faster: the relaxation is nearly all of the proof
    solver.parameters.cp_model_probing_level = 0  # a tenth faster, together with the next: there is nothing to find
    solver.parameters.symmetry_level = 0
    solver.parameters.max_time_in_seconds = time_limit_s
    solver.parameters.relative_gap_limit = tolerance
    return solver


class _CoreModel:
    """
    One literal per column (layer, activation bits, weight bits).

    A layer with its own activation quantizer takes exactly one of its columns. Where layers share one, exactly one
    literal of (group, activation bits) is taken, and each of the layers has as many columns with these activation
    bits. Terms are rounded down to integers, so the solver's bound holds in real units too.
    """

    def __init__(self, problem: ChoiceProblem, presolved: Presolved):
        self._problem = problem
        self.model = cp_model.CpModel()
        self._columns = {
            (int(layer), int(a), int(w)): self.model.new_bool_var(f"x_{layer}_{a}_{w}")
            for layer, a, w in np.argwhere(presolved.open_columns)
        }
        groups = self._add_choices()
        literals = list(self._columns.values())
        keys = tuple(np.array(list(self._columns)).T)
        for costs, limit in zip(problem.costs, problem.limits, strict=True):
            used = cp_model.LinearExpr.weighted_sum(literals, costs[keys].astype(np.int64).tolist())
            self.model.add(used <= int(limit))
        terms = problem.terms[keys]
        self.scale = 2.0 ** (_RESOLUTION_BITS - math.frexp(np.abs(terms).sum())[1])
        floored = np.floor(terms * self.scale).astype(np.int64).tolist()
        self.model.minimize(cp_model.LinearExpr.weighted_sum(literals, floored))
        if presolved.choices:
            taken = self._taken(presolved.choices[0])
            for column, literal in self._columns.items():
                self.model.add_hint(literal, column in taken)
            for (group, a), literal in groups.items():
                self.model.add_hint(literal, bool(presolved.choices[0].activations[group] == a))

    def choice(self, solver: cp_model.CpSolver) -> Choice:
        """Returns the policy that the solver found."""
        problem = self._problem
        result = Choice(np.zeros(len(problem.layers), np.int64), np.zeros(len(problem.starts), np.int64))
        for (layer, a, w), literal in self._columns.items():
            if solver.boolean_value(literal):
                result.weights[layer], result.activations[problem.group_of[layer]] = w, a
        return result

    def forbid(self, choice: Choice) -> None:
        """Shuts out exactly this policy."""
        taken = self._taken(choice)
        self.model.add(sum(self._columns[column] for column in taken) <= len(taken) - 1)

    def _taken(self, choice: Choice) -> set[tuple[int, int, int]]:
        activations = choice.activations[self._problem.group_of]
        rows = zip(range(len(activations)), activations.tolist(), choice.weights.tolist(), strict=True)
        return set(rows)

    def _add_choices(self) -> dict[tuple[int, int], cp_model.IntVar]:
        """Adds what ties the columns; returns the literals of (group, activation bits) of the shared groups."""
        of_layer: dict[int, dict[int, list[cp_model.IntVar]]] = {}
        for (layer, a, _), literal in self._columns.items():
            of_layer.setdefault(layer, {}).setdefault(a, []).append(literal)
        shared: dict[tuple[int, int], cp_model.IntVar] = {}
        ends = [*self._problem.starts[1:].tolist(), len(self._problem.layers)]
        for group, (start, end) in enumerate(zip(self._problem.starts.tolist(), ends, strict=True)):
            if end - start == 1:
                self.model.add_exactly_one(literal for literals in of_layer[start].values() for literal in literals)
                continue
            positions = sorted({a for layer in range(start, end) for a in of_layer[layer]})
            chosen = {a: self.model.new_bool_var(f"y_{group}_{a}") for a in positions}
            self.model.add_exactly_one(chosen.values())
            for layer in range(start, end):
                for a, literal in chosen.items():
                    self.model.add(sum(of_layer[layer].get(a, [])) == literal)
            shared |= {(group, a): literal for a, literal in chosen.items()}
        return shared
