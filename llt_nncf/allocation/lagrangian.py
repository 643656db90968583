"""
The Lagrangian dual of the search: a lower bound that needs one argmin per layer and group.

A group's layers share their activation bits; given these, the layers' weight bits separate, so a group is one
multiple-choice set, and the best dual value equals the bound of the linear relaxation.
"""

from dataclasses import dataclass

import numpy as np

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.allocation.choice_problem import Integers

_MAX_EVALUATIONS = 150  # per limit; a solve needs 30 to 80
_NEAR = 0.2  # of the largest possible multiplier: how far one that is 0 may rise from one problem to the next


@dataclass(frozen=True)
class Relaxed:
    """
    The problem with its limits priced instead of enforced.

    :param multipliers: Price of one lattice step of each limit, shape ``(K,)``.
    :param bound: No policy within the limits has a smaller objective.
    :param choice: The cheapest policy at these prices.
    :param excess: What it uses beyond the limits, shape ``(K,)``.
    :param detours: What the priced objective loses at least by taking (layer, activation bits, weight bits), shape
        ``(L, A, W)``: 0 where ``choice`` is; infinite where the term is.
    :param weight_detours: The same once the group has these activation bits.
    :param best_weights: Position of each layer's cheapest weight bits for given activation bits, shape ``(L, A)``.
    """

    multipliers: Floats
    bound: float
    choice: Choice
    excess: Floats
    detours: Floats
    weight_detours: Floats
    best_weights: Integers


def relax(problem: ChoiceProblem, multipliers: Floats) -> Relaxed:
    """
    Solves the problem with the limits priced.

    :param problem: The problem.
    :param multipliers: Not negative, shape ``(K,)``.
    """
    priced = problem.terms + np.tensordot(multipliers, problem.costs, axes=1)
    best_weights = priced.argmin(axis=2)
    smallest = priced.min(axis=2)
    per_group = np.add.reduceat(smallest, problem.starts, axis=0)
    activations = per_group.argmin(axis=1)
    smallest_group = per_group.min(axis=1)
    choice = Choice(best_weights[np.arange(len(best_weights)), activations[problem.group_of]], activations)
    weight_detours = priced - np.where(np.isfinite(smallest), smallest, 0.0)[:, :, None]
    detours = (per_group - smallest_group[:, None])[problem.group_of][:, :, None] + weight_detours
    bound = float(smallest_group.sum() - multipliers @ problem.limits)
    excess = problem.used(choice) - problem.limits
    return Relaxed(multipliers, bound, choice, excess, detours, weight_detours, best_weights)


def maximize_bound(problem: ChoiceProblem, start: Floats | None = None) -> Relaxed:
    """
    Finds the multipliers with the largest bound, by the ellipsoid method with deep cuts (bisection for one limit).

    The bound is concave in the multipliers and ``excess`` is its slope. Any multipliers give a valid bound, so neither
    the start nor the stop decides about correctness.

    :param problem: The problem.
    :param start: Multipliers of a similar problem, shape ``(K,)``: the best ones are sought near them.
    """
    count = len(problem.limits)
    best = relax(problem, np.zeros(count))
    if (best.excess <= 0).all():
        return best
    centre: Floats = np.zeros(count)
    radius = _radius(problem, best)
    if start is not None:
        centre = np.minimum(start, radius)
        radius = np.minimum(radius, np.maximum(centre, _NEAR * radius))
    ellipsoid = count * np.diag(radius**2)
    here = best
    for _ in range(_MAX_EVALUATIONS * count):
        if (centre < 0).any():
            slope, shortfall = np.eye(count)[centre.argmin()], -centre.min()
        else:
            here = relax(problem, centre)
            best = max(best, here, key=lambda relaxed: relaxed.bound)
            slope, shortfall = here.excess, best.bound - here.bound
        # The most that the bound can still rise inside the ellipsoid; rounding spoils one that shrinks to a needle, as
        # it does where no policy meets all limits.
        reach = float(np.sqrt(max(slope @ ellipsoid @ slope, 0.0)))
        if shortfall >= reach or (here.multipliers is centre and reach <= 1e-8 * problem.magnitude):
            break
        direction = ellipsoid @ slope / reach
        depth = shortfall / reach
        centre = centre + (1 + count * depth) / (count + 1) * direction
        along = np.outer(direction, direction)
        across_factor = count**2 * (1 - depth**2) / max(count**2 - 1, 1)
        ellipsoid = across_factor * (ellipsoid - along) + (count * (1 - depth) / (count + 1)) ** 2 * along
    return _without_idle_prices(problem, best)


def _radius(problem: ChoiceProblem, free: Relaxed) -> Floats:
    """
    Bounds each multiplier by (objective lost at the cheapest policy) / (room it leaves), at least one step.

    At a higher price the bound falls below the one at price 0, which ``free`` has.
    """
    result = np.ones(len(problem.limits))
    for k in range(len(result)):
        cheapest = cheapest_choice(problem, k)
        room = max(1.0, problem.limits[k] - problem.used(cheapest)[k])
        result[k] = max(problem.objective(cheapest) - free.bound, 1e-9 * problem.magnitude) / room
    return result


def _without_idle_prices(problem: ChoiceProblem, best: Relaxed) -> Relaxed:
    """Sets the multipliers to exactly 0 that the search left near it without a gain."""
    for k in np.flatnonzero(best.multipliers):
        multipliers = best.multipliers.copy()
        multipliers[k] = 0.0
        without = relax(problem, multipliers)
        if without.bound >= best.bound - 1e-10 * problem.magnitude:
            best = without
    return best


def cheapest_choice(problem: ChoiceProblem, k: int) -> Choice:
    """Returns the policy that uses least of limit ``k``, whatever its objective."""
    costs = np.where(np.isinf(problem.terms), np.inf, problem.costs[k])
    activations = np.add.reduceat(costs.min(axis=2), problem.starts, axis=0).argmin(axis=1)
    weights = costs.argmin(axis=2)[np.arange(len(costs)), activations[problem.group_of]]
    return Choice(weights, activations)
