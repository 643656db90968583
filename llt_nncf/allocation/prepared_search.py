"""What is the same for every budget: mended indicators and their power, alpha as a number, the choice that is left."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from llt_nncf.allocation.balance import balanced_alpha
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import build_problem
from llt_nncf.allocation.outliers import Outlier
from llt_nncf.allocation.outliers import mend_outliers
from llt_nncf.allocation.restrictions import Restrictions
from llt_nncf.artifacts.indicator_table import IndicatorTable
from llt_nncf.artifacts.pair_score_table import PairScoreTable
from llt_nncf.cost.limit import Limit
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.errors import SearchOptionError


@dataclass(frozen=True)
class PreparedSearch:
    """
    A search that only lacks its limits.

    :param indicators: What is searched with.
    :param alpha: Factor on the weights' indicators.
    :param restrictions: On the choice.
    :param outliers: Indicators that fell where the bits do.
    """

    indicators: IndicatorTable | PairScoreTable
    alpha: float
    restrictions: Restrictions
    outliers: tuple[Outlier, ...]

    def problem(self, limits: Sequence[Limit]) -> ChoiceProblem:
        """
        Puts everything into arrays.

        :raises SearchOptionError: If the restrictions leave a layer with nothing.
        """
        # Without any, all pairs are allowed, and thousands of layers need not be gone through.
        is_free = self.restrictions == Restrictions()
        allowed = None if is_free else self.restrictions.allowed(self.indicators.table)
        return build_problem(self.indicators, limits, self.alpha, allowed)


def prepare_search(
    indicators: IndicatorTable | PairScoreTable,
    *,
    alpha: float | str,
    power: float,
    outliers: str,
    restrictions: Restrictions | None,
) -> PreparedSearch:
    """
    Checks what ``allocate_bits`` takes, and works out what follows from it.

    :raises InvalidIndicatorError: If ``alpha`` is out of range, or outliers are refused.
    :raises SearchOptionError: If ``outliers`` is no rule, or ``power`` is out of range.
    """
    if not (math.isfinite(power) and power > 0):
        msg = f"power={power!r} must be finite and positive; 1.0 takes the indicators as they are."
        raise SearchOptionError(msg)
    restrictions = restrictions or Restrictions()
    found: tuple[Outlier, ...] = ()
    if isinstance(indicators, IndicatorTable):
        indicators, found = mend_outliers(indicators, outliers)
        if power != 1:
            weights, activations = (_raised(rows, power) for rows in (indicators.weights, indicators.activations))
            indicators = replace(indicators, weights=weights, activations=activations)
        if alpha == "auto":
            alpha = balanced_alpha(indicators)
    elif alpha == "auto":
        alpha = 1.0
    if isinstance(alpha, str) or not (math.isfinite(alpha) and alpha >= 0):
        msg = f"alpha={alpha!r} must be 'auto', or finite and not negative; 1.0 adds the indicators as they are."
        raise InvalidIndicatorError(msg)
    return PreparedSearch(indicators, alpha, restrictions, found)


def _raised(rows: Mapping[str, Mapping[int, float]], power: float) -> dict[str, dict[int, float]]:
    return {
        name: {bits: _power(value, power, f"{name!r} at {bits} bits") for bits, value in values.items()}
        for name, values in rows.items()
    }


def _power(value: float, power: float, where: str) -> float:
    try:
        result = value**power
    except OverflowError:
        result = math.inf
    if value > 0 and not 0 < result < math.inf:
        msg = (
            f"The indicator of {where}, {value:.3g}, to the power={power:g} is no float: multiply all indicators by "
            "one factor, or take power 1."
        )
        raise InvalidIndicatorError(msg)
    return result
