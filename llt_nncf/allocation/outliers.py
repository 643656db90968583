"""Indicators that rank a narrower quantizer above a wider one: noise of the training, found, reported and mended."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace

from llt_nncf.artifacts.indicator_table import BitsToValue
from llt_nncf.artifacts.indicator_table import IndicatorTable
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.errors import SearchOptionError

OUTLIER_RULES = ("repair", "keep", "error")


@dataclass(frozen=True)
class Outlier:
    """
    The indicators of one quantizer that fall somewhere as the bits do.

    :param kind: ``weights`` or ``activations``.
    :param name: The layer, or the activation quantizer.
    :param given: Bit-width to indicator, as in the file.
    :param searched_with: The same as the search took them.
    """

    kind: str
    name: str
    given: BitsToValue
    searched_with: BitsToValue


def mend_outliers(indicators: IndicatorTable, rule: str) -> tuple[IndicatorTable, tuple[Outlier, ...]]:
    """
    Finds the quantizers whose indicators do not rise as the bits fall, and does with them what ``rule`` says.

    :param indicators: The indicators.
    :param rule: ``repair`` replaces them by the nearest ones (least squares) that do not fall, which keeps their sum;
        ``keep`` takes them as they are; ``error`` refuses them.
    :return: The indicators to search with, and what was found.
    :raises SearchOptionError: If the rule is another.
    :raises InvalidIndicatorError: If the rule is ``error`` and something was found; all are named.
    """
    if rule not in OUTLIER_RULES:
        msg = f"outliers={rule!r} must be one of {', '.join(map(repr, OUTLIER_RULES))}."
        raise SearchOptionError(msg)
    found = []
    mended = {"weights": dict(indicators.weights), "activations": dict(indicators.activations)}
    for kind, rows in (("weights", indicators.weights), ("activations", indicators.activations)):
        for name, values in rows.items():
            rising = _nearest_rising(values)
            if rising != dict(values):
                searched_with = rising if rule == "repair" else values
                found.append(Outlier(kind, name, dict(values), dict(searched_with)))
                mended[kind][name] = searched_with
    if found and rule == "error":
        named = "; ".join(f"{outlier.kind}[{outlier.name!r}]={_in_order(outlier.given)}" for outlier in found)
        msg = f"Indicators must not fall as the bits do: {named}. Train longer, or set outliers to 'repair' or 'keep'."
        raise InvalidIndicatorError(msg)
    if not found:
        return indicators, ()
    return replace(indicators, weights=mended["weights"], activations=mended["activations"]), tuple(found)


def _in_order(values: BitsToValue) -> dict[int, float]:
    return {bits: values[bits] for bits in sorted(values, reverse=True)}


def _nearest_rising(values: Mapping[int, float]) -> dict[int, float]:
    """
    Pools neighbours that are out of order into their mean, until none is (isotonic regression).

    >>> _nearest_rising({4: 1.0, 3: 5.0, 2: 3.0})
    {4: 1.0, 3: 4.0, 2: 4.0}
    """
    falling_bits = sorted(values, reverse=True)
    ordered = [values[bits] for bits in falling_bits]
    if ordered == sorted(ordered):
        return dict(values)
    pools: list[list[float]] = []  # values shall rise from pool to pool
    for value in ordered:
        pools.append([value])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    levels = [pool[0] if len(pool) == 1 else _mean(pool) for pool in pools for _ in pool]
    return dict(zip(falling_bits, levels, strict=True))


def _mean(pool: list[float]) -> float:
    return sum(pool) / len(pool)
