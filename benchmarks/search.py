"""
How fast the search is, against CBC through PuLP (the LIMPQ authors' tool) and against CP-SAT without the presolve.

    python benchmarks/search.py --pulp-python /path/to/python

Each solver has a process of its own, which lives through all rounds; they take turns on the same instance, from the
loaded indicators to the proven policy. Medians and their ratios are printed. PuLP below version 3 is needed in some
interpreter that has numpy and ortools too: `python -m venv v && v/bin/pip install 'pulp<3' numpy ortools`; without
--pulp-python it is expected here. Up to 500 layers all solvers prove the optimum. Of 5,000 layers this search is asked
for a gap of 1e-6, and CBC for 1e-4 only, because it would take too long. CP-SAT alone is not run on 5,000 layers,
of which it found no policy in minutes.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from llt_nncf.allocation import Frontier
from llt_nncf.allocation import allocate_bits
from llt_nncf.allocation.choice_problem import ChoiceProblem
from llt_nncf.allocation.choice_problem import build_problem
from llt_nncf.allocation.cp_sat_core import solve_core
from llt_nncf.allocation.presolve import Presolved
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget

try:
    import pulp
except ImportError:  # only the worker for CBC needs it
    pulp = None

ROOT = Path(__file__).parents[1]
FIXTURE = ROOT / "tests" / "fixtures" / "limpq_resnet50.json"
BITS = (6, 5, 4, 3, 2)
# Instance: rounds of each solver.
ROUNDS = {
    "published": {"ours": 11, "cp-sat": 11, "cbc": 11},
    "500 layers": {"ours": 5, "cp-sat": 1, "cbc": 3},
    "5000 layers": {"ours": 3, "cbc": 1},
    "100 points": {"ours": 5},
}


def instance(name: str) -> tuple[IndicatorTable, Budget, float]:
    """Indicators, budget and alpha; random layers have indicators of a trained kind: magnitude x 2**-bits x noise."""
    if not name.endswith("layers"):
        return IndicatorTable.load(FIXTURE), Budget(bitops_as=(3, 4), compression_ratio=12.2), 2.0
    rng = np.random.default_rng(0)
    layers, weights, activations = [], {}, {}
    for index in range(int(name.split()[0])):
        layer = f"layer{index}"
        for rows, magnitude in ((weights, 1.0), (activations, 2.0)):
            scale = magnitude * np.exp(rng.normal())
            rows[layer] = {bits: float(scale * rng.uniform(0.9, 1.1) / 2**bits) for bits in BITS}
        macs, count = (int(n) for n in rng.integers(1, 4000, 2))
        layers.append(Layer(layer, macs * 12544, count * 64, layer, BITS, BITS))
    return (
        IndicatorTable(LayerTable(tuple(layers)), weights, activations),
        Budget(bitops_as=(3, 4), compression_ratio=9),
        1,
    )


def search_ours(name: str, indicators: IndicatorTable, budget: Budget, alpha: float) -> float:
    """Returns the objective of the proven policy, or for the frontier the number of points."""
    if name == "100 points":
        frontier = Frontier(indicators, ["gbitops", "weight_mib"], alpha=alpha)
        points = frontier.trace({axis: frontier.evenly(axis, 10) for axis in frontier.axes})
        if not all(point.objective - point.best_bound < 1e-9 for point in points):
            raise RuntimeError("Some point is not proven.")
        return len(points)
    tolerance = 1e-6 if name == "5000 layers" else 0.0
    found = allocate_bits(indicators, budget, alpha=alpha, tolerance=tolerance)
    if found.gap > max(tolerance, 1e-9):
        raise RuntimeError(f"The gap is {found.gap}.")
    return found.objective


def search_cp_sat(name: str, indicators: IndicatorTable, budget: Budget, alpha: float) -> float:
    """The same problem with all columns open, without a start."""
    problem = build_problem(indicators, budget.limits(indicators.table), alpha)
    everything = Presolved(-np.inf, np.zeros(2), (), False, np.isfinite(problem.terms))
    result = solve_core(problem, everything, time_limit_s=600)
    return problem.objective(result.choices[0])


def search_cbc(name: str, indicators: IndicatorTable, budget: Budget, alpha: float) -> float:
    """One binary per layer and pair of bits, as in the authors' script."""
    problem = build_problem(indicators, budget.limits(indicators.table), alpha)
    model, chosen = _pulp_model(problem)
    model.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=1e-4 if name == "5000 layers" else None))
    if model.status != pulp.LpStatusOptimal:
        raise RuntimeError(f"CBC ended with {pulp.LpStatus[model.status]}.")
    return sum(problem.terms[key] for key, variable in chosen.items() if variable.value() > 0.5)


def _pulp_model(problem: ChoiceProblem) -> tuple["pulp.LpProblem", dict]:
    model = pulp.LpProblem("bits", pulp.LpMinimize)
    keys = list(map(tuple, np.argwhere(np.isfinite(problem.terms)).tolist()))
    chosen = {key: pulp.LpVariable("x_{}_{}_{}".format(*key), cat="Binary") for key in keys}
    model += pulp.LpAffineExpression([(chosen[key], problem.terms[key]) for key in keys])
    of_layer: dict[int, list] = {}
    for key in keys:
        of_layer.setdefault(key[0], []).append((chosen[key], 1))
    for pairs in of_layer.values():
        model += pulp.LpAffineExpression(pairs) == 1
    for costs, limit in zip(problem.costs, problem.limits, strict=True):
        model += pulp.LpAffineExpression([(chosen[key], costs[key]) for key in keys]) <= limit
    return model, chosen


SEARCHES = {"ours": search_ours, "cp-sat": search_cp_sat, "cbc": search_cbc}


def work(solver: str) -> None:
    """Answers each instance's name on stdin with the time of one search."""
    loaded: dict[str, tuple[IndicatorTable, Budget, float]] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in loaded:
            loaded[name] = instance(name)
        wall, cpu = time.perf_counter(), time.process_time()
        objective = SEARCHES[solver](name, *loaded[name])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"wall": wall, "cpu": cpu, "objective": objective, "mib": mib}), flush=True)


def measure(name: str, workers: dict[str, subprocess.Popen], rounds: dict[str, int]) -> dict[str, dict[str, float]]:
    """Lets the solvers take turns; returns the medians of each."""
    answers: dict[str, list[dict[str, float]]] = {solver: [] for solver in rounds}
    for number in range(max(rounds.values())):
        for solver, count in rounds.items():
            if number < count:
                workers[solver].stdin.write(name + "\n")
                workers[solver].stdin.flush()
                answers[solver].append(json.loads(workers[solver].stdout.readline()))
    medians = {
        solver: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for solver, rows in answers.items()
    }
    print(f"{name}: build and solve")
    for solver, row in medians.items():
        walls = [answer["wall"] for answer in answers[solver]]
        spread = f"{1e3 * min(walls):,.1f} to {1e3 * max(walls):,.1f}"
        ratio = "" if solver == "ours" else f", {row['wall'] / medians['ours']['wall']:.1f}x the time of ours"
        print(
            f"  {solver:<7}{1e3 * row['wall']:>10,.1f} ms wall, {1e3 * row['cpu']:,.0f} ms CPU ({len(walls)} rounds, "
            f"{spread}), result {row['objective']:.9g}, process {row['mib']:.0f} MiB{ratio}"
        )
    return medians


def measure_shell() -> float:
    """Median wall time of the command, from the shell to the policy file, in seconds."""
    walls = []
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "llt_nncf.cli",
            "search",
            str(FIXTURE),
            "--alpha",
            "2",
            "--bitops-as",
            "3",
            "4",
        ]
        command += ["--compression-ratio", "12.2", "-o", f"{folder}/policy.json"]
        for _ in range(7):
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            walls.append(time.perf_counter() - begin)
    spread = f"{min(walls):.2f} to {max(walls):.2f}"
    print(f"llt-nncf search, from shell to policy file: {statistics.median(walls):.2f} s wall ({spread})")
    return statistics.median(walls)


def main() -> None:
    """Prints everything; ``--only`` leaves instances out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--pulp-python", default=sys.executable, help="interpreter with pulp<3, numpy and ortools")
    parser.add_argument("--only", nargs="+", default=list(ROUNDS), choices=list(ROUNDS), help="instances")
    parser.add_argument("--worker", choices=list(SEARCHES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    solvers = {solver for name in options.only for solver in ROUNDS[name]}
    workers = {
        solver: subprocess.Popen(
            [options.pulp_python if solver == "cbc" else sys.executable, __file__, "--worker", solver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for solver in sorted(solvers)
    }
    for name in options.only:
        measure(name, workers, ROUNDS[name])
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    measure_shell()


if __name__ == "__main__":
    main()
