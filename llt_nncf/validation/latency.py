"""Latency of models, timed in turns so that a change of the machine's speed meets all of them alike."""

import time
from collections.abc import Mapping

import numpy as np

from llt_nncf.validation.runners import Runner

_WARM_UP_ROUNDS = 5


def measure_latency(runners: Mapping[str, Runner], sample: np.ndarray, *, rounds: int) -> dict[str, float]:
    """
    Times every runner once per round.

    :param runners: Name to loaded model.
    :param sample: One input, shape ``(1, ...)``.
    :param rounds: At least 1; a few rounds before them are not counted.
    :return: Name to the median in milliseconds.
    """
    times: dict[str, list[float]] = {name: [] for name in runners}
    for round_number in range(-_WARM_UP_ROUNDS, rounds):
        for name, runner in runners.items():
            start = time.perf_counter()
            runner.run(sample)
            if round_number >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in times.items()}
