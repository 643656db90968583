"""From a problem in arrays to its best policies, with their proof."""

from dataclasses import dataclass

from llt_nncf.allocation.allocation import relative_gap
from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.allocation.cp_sat_core import solve_core
from llt_nncf.allocation.presolve import presolve
from llt_nncf.errors import SearchNotProvenError


@dataclass(frozen=True)
class Solved:
    """
    The best policies of a problem.

    :param choices: The best first; none if there is no policy within the limits, fewer than asked for if there are no
        more.
    :param bound: No policy has a smaller objective.
    :param multipliers: Price of one lattice step of each limit, shape ``(K,)``.
    """

    choices: tuple[Choice, ...]
    bound: float
    multipliers: Floats


def solve(
    problem: ChoiceProblem,
    *,
    count: int = 1,
    tolerance: float = 0.0,
    time_limit_s: float = 60.0,
    near: Floats | None = None,
) -> Solved:
    """
    Proves the best policies by bounds and enumeration alone where it can, else with CP-SAT on what these leave open.

    :param problem: The problem.
    :param count: How many of the best policies are wanted.
    :param tolerance: Relative gap at which one policy is good enough; without effect on several.
    :param time_limit_s: Longest wall time of CP-SAT, positive.
    :param near: Multipliers of a similar problem, which make this one faster.
    :raises SearchNotProvenError: If the time was too short.
    """
    presolved = presolve(problem, count=count, tolerance=tolerance, near=near)
    best = problem.objective(presolved.choices[0]) if presolved.choices else None
    is_good = count == 1 and best is not None and relative_gap(best, presolved.bound) <= tolerance
    if presolved.is_complete or is_good:
        return Solved(presolved.choices, presolved.bound, presolved.multipliers)
    core = solve_core(
        problem, presolved, time_limit_s=time_limit_s, count=count, tolerance=tolerance if count == 1 else 0.0
    )
    has_no_more = core.status == "INFEASIBLE" and len(presolved.choices) < count
    if core.status != "OPTIMAL" and not has_no_more:
        if count > 1:
            msg = (
                f"The solver stopped with status {core.status} before all {count} best policies were proven. Raise the "
                "time limit, ask for fewer, or loosen the budget."
            )
            raise SearchNotProvenError(msg)
        found = [problem.objective(choice) for choice in (*core.choices, *presolved.choices)]
        bound = max(core.bound, presolved.bound)
        gap = f"{relative_gap(min(found), bound):.3g}" if found else "unknown, for no policy was found"
        msg = (
            f"The solver stopped with status {core.status} before it had a proof: the relative gap is {gap}. "
            "Raise the time limit, allow a tolerance, or loosen the budget."
        )
        raise SearchNotProvenError(msg)
    # The solver's integers may put policies in another order that differ by less than one of them.
    choices = tuple(sorted(core.choices, key=problem.objective))
    return Solved(choices, max(core.bound, presolved.bound), presolved.multipliers)
