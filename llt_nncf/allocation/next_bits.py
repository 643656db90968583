"""What one more or one less bit would cost, layer by layer."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llt_nncf.allocation.choice_problem import Choice
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import Floats
from llt_nncf.cost.limit import Limit


@dataclass(frozen=True)
class NextBits:
    """
    One quantizer with the next candidate, everything else as it is.

    :param layers: The layers that it changes: all that share an activation quantizer.
    :param kind: ``weights`` or ``activations``; where both are tied, the weights of the layers follow.
    :param from_bits: What the policy has.
    :param to_bits: The next candidate above or below.
    :param objective_change: Positive if that is worse.
    :param limit_changes: By the name of each limit, in its unit.
    :param fits: Whether the policy would still be within all limits.
    :param net_loss: ``objective_change`` and what the change of the costs is worth at the limits' multipliers: near 0
        where the choice was close. What is below 0 lies within the gap between the relaxed problem and the true one.
    """

    layers: tuple[str, ...]
    kind: str
    from_bits: int
    to_bits: int
    objective_change: float
    limit_changes: Mapping[str, float]
    fits: bool
    net_loss: float


def next_bits(
    problem: ChoiceProblem, limits: Sequence[Limit], multipliers: Floats, choice: Choice
) -> tuple[NextBits, ...]:
    """
    Lists every change of one quantizer to a neighbouring candidate that the restrictions leave.

    :param problem: The problem.
    :param limits: Its limits, for their units.
    :param multipliers: Price of one lattice step of each, shape ``(K,)``.
    :param choice: A policy within the limits.
    """
    activations = choice.activations[problem.group_of]
    rows = np.arange(len(problem.layers))
    terms, used = problem.terms[rows, activations, choice.weights], problem.costs[:, rows, activations, choice.weights]
    totals, in_integers = used.sum(axis=1), problem.totals(choice)
    result = []
    for kind, members, a, weights in _neighbours(problem, choice):
        change = float(problem.terms[members, a, weights].sum() - terms[members].sum())
        steps = problem.costs[:, members, a, weights].sum(axis=1) - used[:, members].sum(axis=1)
        first = problem.layers[members[0]]
        before = (choice.weights if kind == "weights" else activations)[members[0]]
        candidates = first.weight_bits if kind == "weights" else first.activation_bits
        result.append(
            NextBits(
                tuple(problem.layers[layer].name for layer in members),
                kind,
                candidates[before],
                candidates[weights[0] if kind == "weights" else a],
                change,
                {
                    limit.name: limit.in_unit(before + int(more) * int(step)) - limit.in_unit(before)
                    for limit, before, more, step in zip(limits, in_integers, steps, problem.steps, strict=True)
                },
                bool((totals + steps <= problem.limits).all()),
                change + float(multipliers @ steps),
            )
        )
    return tuple(result)


def _neighbours(problem: ChoiceProblem, choice: Choice) -> Iterator[tuple[str, np.ndarray, int, np.ndarray]]:
    """Yields kind, positions of the layers, and the positions of their activation and weight bits after the change."""
    may = np.isfinite(problem.terms)
    ends = np.append(problem.starts[1:], len(problem.layers))
    for group, (start, end) in enumerate(zip(problem.starts, ends, strict=True)):
        members = np.arange(start, end)
        here = choice.activations[group]
        for layer in members:
            for weight in _beside(np.flatnonzero(may[layer, here]), choice.weights[layer]):
                yield "weights", np.array([layer]), here, np.array([weight])
        for a in _beside(np.flatnonzero(may[members].any(axis=2).all(axis=0)), here):
            # Weight bits that cannot stay, since they are tied to the activation bits, move to the nearest that can be.
            left = zip((np.flatnonzero(row) for row in may[members, a]), choice.weights[members], strict=True)
            yield "activations", members, a, np.array([w[abs(w - wanted).argmin()] for w, wanted in left])


def _beside(positions: np.ndarray, here: int) -> Iterator[int]:
    """The nearest position below ``here`` and the nearest above; candidates are in descending order."""
    below, above = positions[positions < here], positions[positions > here]
    yield from below[-1:]
    yield from above[:1]
