"""How far two tables of indicators rank the layers alike, and whether the ranking still changes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from llt_nncf.artifacts import IndicatorTable

_Values = Mapping[str, Mapping[int, float]]


def ranking_tau(one: IndicatorTable, other: IndicatorTable) -> float:
    """
    Returns Kendall's tau-b between two rankings of the same layers, the mean over weights, activations and bit-widths.

    :param one: Indicators.
    :param other: Indicators of the same layers.
    :return: From -1 to 1; 1 also where there are fewer than two searched layers, or all indicators are equal.
    """
    return _mean_tau(_columns(one.weights, one.activations), _columns(other.weights, other.activations))


class RankingWindow:
    """
    Compares the ranking of the layers with the one some steps ago.

    :param window_steps: How far back, in optimizer steps.
    :param threshold: The ranking is stable from this tau on; ``None`` for never.
    """

    def __init__(self, window_steps: int, threshold: float | None):
        self._window_steps = window_steps
        self._threshold = threshold
        self._snapshots: list[tuple[int, dict[str, list[float]]]] = []
        self._tau: float | None = None

    def update(self, step: int, indicators: IndicatorTable) -> float | None:
        """
        Takes in the indicators after ``step``.

        :return: Tau against the newest snapshot that is at least a window older; ``None`` until there is one.
        """
        columns = _columns(indicators.weights, indicators.activations)
        while len(self._snapshots) > 1 and self._snapshots[1][0] <= step - self._window_steps:
            del self._snapshots[0]
        self._tau = None
        if self._snapshots and self._snapshots[0][0] <= step - self._window_steps:
            self._tau = _mean_tau(columns, self._snapshots[0][1])
        self._snapshots.append((step, columns))
        return self._tau

    @property
    def is_stable(self) -> bool:
        """Whether the last tau reached the threshold."""
        return self._threshold is not None and self._tau is not None and self._tau >= self._threshold

    def state_dict(self) -> dict[str, Any]:
        """Returns the snapshots, JSON-able."""
        return {"snapshots": self._snapshots, "tau": self._tau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what ``state_dict`` returned."""
        self._snapshots = [(step, columns) for step, columns in state["snapshots"]]
        self._tau = state["tau"]


def _columns(weights: _Values, activations: _Values) -> dict[str, list[float]]:
    """One list of indicators per kind and bit-width, over what has more than one candidate."""
    columns: dict[str, list[float]] = {}
    for kind, table in (("weights", weights), ("activations", activations)):
        for values in table.values():
            for bits, value in values.items() if len(values) > 1 else ():
                columns.setdefault(f"{kind}-{bits}", []).append(value)
    return columns


def _mean_tau(one: dict[str, list[float]], other: dict[str, list[float]]) -> float:
    taus = [kendalltau(one[key], other[key]).statistic if len(one[key]) > 1 else 1.0 for key in one]
    # NaN: one of the two has no order at all. Two that are equal have the same, though.
    taus = [
        1.0 if one[key] == other[key] else 0.0 if np.isnan(tau) else tau for key, tau in zip(one, taus, strict=True)
    ]
    return float(np.mean(taus)) if taus else 1.0
