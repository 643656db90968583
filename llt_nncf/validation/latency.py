"""Times of several calls, taken in turns so that a change of the machine's speed meets all of them alike."""

import time
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

import numpy as np

_WARM_UP_ROUNDS = 5

K = TypeVar("K", bound=Hashable)


def time_in_turns(calls: Mapping[K, Callable[[], object]], *, rounds: int) -> dict[K, np.ndarray]:
    """
    Times every call once per round.

    :param calls: Name to what is timed.
    :param rounds: At least 1; a few rounds before them are not counted.
    :return: Name to milliseconds, shape ``(rounds,)``.
    """
    times: dict[K, list[float]] = {name: [] for name in calls}
    for round_number in range(-min(rounds, _WARM_UP_ROUNDS), rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_number >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: np.array(values) for name, values in times.items()}


def ratio_figures(key: str, slow: np.ndarray, fast: np.ndarray) -> dict[str, Any]:
    """
    Returns how many times faster ``fast`` is: median and quartiles of the ratios within each round.

    >>> ratio_figures("speed_up", np.array([2.0, 4.0, 9.0]), np.array([1.0, 1.0, 3.0]))
    {'speed_up': 3.0, 'speed_up_quartiles': [2.5, 3.5]}
    """
    low, median, high = np.percentile(slow / fast, (25, 50, 75)).tolist()
    return {key: median, f"{key}_quartiles": [low, high]}
