"""Why no policy meets a budget, in words."""

from collections.abc import Sequence
from decimal import ROUND_CEILING
from decimal import ROUND_FLOOR
from decimal import Context

import numpy as np

from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.lagrangian import cheapest_choice
from llt_nncf.cost.limit import Limit
from llt_nncf.errors import some_of


def unreachable_limits(problem: ChoiceProblem) -> list[int]:
    """Returns the positions of the limits that no policy meets, each taken alone."""
    return [k for k, limit in enumerate(problem.limits) if problem.used(cheapest_choice(problem, k))[k] > limit]


def explain_infeasible(problem: ChoiceProblem, limits: Sequence[Limit]) -> str:
    """
    Names for every limit the best value that it can reach, and the fixed layers that hold it there.

    :param problem: The problem; no policy meets all of its limits.
    :param limits: The limits that it was built from.
    """
    unreachable = unreachable_limits(problem)
    parts = []
    for k, limit in enumerate(limits):
        best = limit.in_unit(problem.totals(cheapest_choice(problem, k))[k])
        word = "largest" if limit.larger_is_tighter else "smallest"
        verdict = "cannot be met" if k in unreachable else "can be met alone"
        parts.append(
            f"{limit.name}={limit.given} {verdict}: the {word} reachable value is "
            f"{_rounded(best, up=not limit.larger_is_tighter)} {limit.unit} "
            f"({_fixed(problem, limit)})"
        )
    remedy = (
        f"Loosen {' and '.join('budget.' + limits[k].name for k in unreachable)}, give lower candidate bits, "
        "or free a fixed layer."
        if unreachable
        else "Every limit can be met alone, but not all of them together: loosen one."
    )
    return f"{'; '.join(parts)}. {remedy}"


def _rounded(value: float, *, up: bool) -> str:
    """
    Returns six digits that can be given as a limit: what they say is never beyond what can be reached.

    >>> _rounded(2.4840431, up=True), _rounded(12.880489, up=False), _rounded(2.5, up=True)
    ('2.48405', '12.8804', '2.5')
    """
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    return f"{Context(prec=6, rounding=rounding).create_decimal_from_float(value).normalize():f}"


def _fixed(problem: ChoiceProblem, limit: Limit) -> str:
    """Names the layers whose cost cannot be lowered because only one bit-width is left to them."""
    held = []
    for layer, may in zip(problem.layers, np.isfinite(problem.terms), strict=True):
        a, w = np.nonzero(may)
        weights = f"W{layer.weight_bits[w[0]]}" if limit.needs_weights and len(set(w)) == 1 else ""
        activations = f"A{layer.activation_bits[a[0]]}" if limit.needs_activations and len(set(a)) == 1 else ""
        if weights + activations:
            held.append(f"{layer.name!r} at {weights}{activations}")
    return f"fixed: {some_of(held, 6)}" if held else "no layer is fixed"
