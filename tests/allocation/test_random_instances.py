"""Random instances with any combination of budgets, groups and restrictions, against every policy, one by one."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from llt_nncf.allocation import Restrictions
from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.cost import Budget
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import SearchOptionError

# The oracle goes through every policy in plain Python: up to 5 layers, up to 5 bits, but not all of them at once, which
# test_allocate.py does with numpy.
MOST_POLICIES = 15_000
SETTINGS = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
GROUP_SIZES = [sizes for n in range(1, 6) for sizes in itertools.product((1, 2, 3), repeat=n) if sum(sizes) <= 5]


@st.composite
def tables(draw):
    """Layers in groups, some of them fixed in one kind or both."""
    candidates = st.lists(st.integers(2, 6), min_size=1, max_size=5, unique=True)
    bits = candidates.map(lambda chosen: tuple(sorted(chosen, reverse=True)))
    layers = []
    for group, size in enumerate(draw(st.sampled_from(GROUP_SIZES))):
        activation_bits = draw(st.one_of(bits, st.just((8,))))
        for _ in range(size):
            counts = draw(st.integers(1, 50)), draw(st.integers(1, 50))
            layers.append(Layer(f"layer{len(layers)}", *counts, f"q{group}", draw(bits), activation_bits))
    return LayerTable(tuple(layers))


@st.composite
def scored_layers(draw):
    """Indicators in any order, or scores of pairs."""
    table = draw(tables())
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    if draw(st.booleans()):
        return PairScoreTable(table, of_pairs(table, lambda: float(rng.normal())))
    inputs = {name: rows[0].activation_bits for name, rows in table.groups.items()}
    activations = {name: {b: float(rng.uniform()) for b in bits} for name, bits in inputs.items()}
    weights = {x.name: {b: float(rng.uniform()) for b in x.weight_bits} for x in table.layers}
    return IndicatorTable(table, weights, activations)


def of_pairs(table, value):
    """A value for every pair of every layer."""
    pairs = {x.name: itertools.product(x.weight_bits, x.activation_bits) for x in table.layers}
    return {name: {pair: value() for pair in of} for name, of in pairs.items()}


def policies(table):
    """Every policy: layer name to (weight bits, activation bits)."""
    for activations in itertools.product(*(rows[0].activation_bits for rows in table.groups.values())):
        of_group = dict(zip(table.groups, activations, strict=True))
        for weights in itertools.product(*(layer.weight_bits for layer in table.layers)):
            yield {x.name: (w, of_group[x.activation_group]) for x, w in zip(table.layers, weights, strict=True)}


def objective_of(scored, alpha, bits):
    """A kind that is fixed has no indicator, a fixed layer no score."""
    table = scored.table
    if isinstance(scored, PairScoreTable):
        return math.fsum(scored.scores[x.name][bits[x.name]] for x in table.layers if not x.is_fixed)
    weights = [scored.weights[x.name][bits[x.name][0]] for x in table.layers if len(x.weight_bits) > 1]
    firsts = [rows[0] for rows in table.groups.values() if len(rows[0].activation_bits) > 1]
    inputs = [scored.activations[x.activation_group][bits[x.name][1]] for x in firsts]
    return math.fsum(inputs) + alpha * math.fsum(weights)


def costs_of(table, bits, latency, *, with_fixed):
    """What the budget's fields name, from their definitions."""
    rows = [(x, *bits[x.name]) for x in table.layers if with_fixed or not x.is_fixed]
    count, macs = sum(x.weight_count for x, *_ in rows), sum(x.macs for x, *_ in rows)
    size = sum(x.weight_count * w for x, w, _ in rows)
    return {
        "gbitops": sum(x.macs * w * a for x, w, a in rows) / 1e9,
        "compression_ratio": 32 * count / size if size else math.inf,
        "weight_mib": size / 2**23,
        "average_weight_bits": size / max(count, 1),
        "average_activation_bits": sum(x.macs * a for x, _, a in rows) / max(macs, 1),
        "latency_ms": sum(latency[x.name][w, a] for x, w, a in rows),
    }


def is_allowed(table, restrictions, bits):
    for x in table.layers:
        w, a = bits[x.name]
        if restrictions.tied and len(x.weight_bits) > 1 and len(x.activation_bits) > 1 and w != a:
            return False
        if restrictions.weight_only and a != max(x.activation_bits):
            return False
        if w not in restrictions.weight_bits.get(x.name, (w,)):
            return False
    return True


@st.composite
def searches(draw):
    """Scored layers, every policy, restrictions, and limits that one of the policies just meets."""
    scored = draw(scored_layers())
    table = scored.table
    every = list(itertools.islice(policies(table), MOST_POLICIES + 1))
    assume(len(every) <= MOST_POLICIES)
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    # Few digits, as a measured table has them, and in no order.
    latency = of_pairs(table, lambda: int(rng.integers(0, 99)) / 100)
    searched = [x.name for x in table.layers if len(x.weight_bits) > 1]
    narrowed = draw(st.sets(st.sampled_from(searched), max_size=1)) if searched else ()
    restrictions = Restrictions(
        weight_bits={name: table.by_name[name].weight_bits[:2] for name in narrowed},
        tied=draw(st.booleans()),
        weight_only=draw(st.booleans()),
    )
    with_fixed = draw(st.booleans())
    met = costs_of(table, draw(st.sampled_from(every)), latency, with_fixed=with_fixed)
    limits = {name: met[name] for name in sorted(draw(st.sets(st.sampled_from(sorted(met)), min_size=1, max_size=3)))}
    assume(all(0 < value < math.inf for value in limits.values()))
    return scored, every, restrictions, limits, latency, with_fixed


@settings(max_examples=200, **SETTINGS)
@given(searches())
def test_the_optimum_and_the_three_best_are_those_of_brute_force(search):
    scored, every, restrictions, limits, latency, with_fixed = search
    budget = Budget(
        **limits,
        latency_table=CostTable("latency", "ms", latency) if "latency_ms" in limits else None,
        without_fixed=() if with_fixed else tuple(limits),
    )

    def fits(bits):
        found = costs_of(scored.table, bits, latency, with_fixed=with_fixed)
        # Larger is better for the ratio alone.
        shares = [found[x] / most if x != "compression_ratio" else most / found[x] for x, most in limits.items()]
        return max(shares) <= 1 + 1e-12

    def allocate(**options):
        return allocate_bits(scored, budget, alpha=1.5, restrictions=restrictions, outliers="keep", **options)

    allowed = [bits for bits in every if is_allowed(scored.table, restrictions, bits)]
    best = sorted(objective_of(scored, 1.5, bits) for bits in allowed if fits(bits))
    if not best:
        with pytest.raises(InfeasibleBudgetError if allowed else SearchOptionError):
            allocate()
        return
    alone, found = allocate(), allocate(k_best=3)
    assert (alone.status, alone.objective) == ("optimal", pytest.approx(best[0], abs=1e-9))
    assert [row.objective for row in found.ranking] == pytest.approx(best[:3], abs=1e-9)
    for row in (*alone.ranking, *found.ranking):
        assert fits(row.policy.bits)
        assert is_allowed(scored.table, restrictions, row.policy.bits)
        assert row.objective == pytest.approx(objective_of(scored, 1.5, row.policy.bits), abs=1e-12)


@settings(max_examples=100, **SETTINGS)
@given(
    scored_layers(),
    st.sampled_from(["gbitops", "weight_mib", "average_weight_bits"]),
    st.lists(st.floats(0, 1), min_size=2),
)
def test_a_looser_budget_never_gives_a_worse_objective(scored, name, shares):
    table = scored.table
    free = of_pairs(table, lambda: 0.0)
    ends = [{x.name: (pick(x.weight_bits), pick(x.activation_bits)) for x in table.layers} for pick in (min, max)]
    low, high = (costs_of(table, bits, free, with_fixed=True)[name] for bits in ends)
    budgets = [low + share * (high - low) for share in sorted(shares)]
    objectives = [allocate_bits(scored, Budget(**{name: most})).objective for most in budgets]
    assert all(later <= earlier + 1e-11 for earlier, later in itertools.pairwise(objectives))
