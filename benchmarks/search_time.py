"""
Time of the search on the published ResNet-50 indicators: the whole of ``allocate_bits`` against CP-SAT on all columns.

    python benchmarks/search_time.py

Both solve the same problem to proof in one process, in turn; medians and their ratio are printed.
"""

import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np

from llt_nncf.allocation import allocate_bits
from llt_nncf.allocation.choice_problem import build_problem
from llt_nncf.allocation.cp_sat_core import solve_core
from llt_nncf.allocation.presolve import presolve
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.cost import Budget

ROUNDS = 11
FIXTURE = Path(__file__).parents[1] / "tests" / "fixtures" / "limpq_resnet50.json"


def main() -> dict[str, float]:
    """Prints and returns the medians in milliseconds."""
    indicators = IndicatorTable.load(FIXTURE)
    budget = Budget(bitops_as=(3, 4), compression_ratio=12.2)
    problem = build_problem(indicators, budget.limits(indicators.table), 2.0)
    exists = np.isfinite(problem.terms)
    everything_open = dataclasses.replace(presolve(problem), open_columns=exists, start=None)

    times: dict[str, list[float]] = {"allocate_bits": [], "CP-SAT on all columns": []}
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        allocation = allocate_bits(indicators, budget, alpha=2.0)
        middle = time.perf_counter()
        core = solve_core(problem, everything_open, time_limit_s=120.0)
        end = time.perf_counter()
        times["allocate_bits"].append(1e3 * (middle - begin))
        times["CP-SAT on all columns"].append(1e3 * (end - middle))
        if core.choice is None or abs(problem.objective(core.choice) - allocation.objective) > 1e-9:
            msg = "The two searches disagree."
            raise RuntimeError(msg)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<22} {median:7.1f} ms (median of {ROUNDS}, {min(times[name]):.1f} to {max(times[name]):.1f})")
    print(f"ratio {medians['CP-SAT on all columns'] / medians['allocate_bits']:.1f}")
    return medians


if __name__ == "__main__":
    main()
