"""Indicators out of order: found, mended as an independent projection does it, kept, or refused."""

import itertools
import math

import numpy as np
import pytest

from llt_nncf.allocation import Outlier
from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.errors import SearchOptionError

BITS = (6, 5, 4, 3, 2)
EVERYTHING = Budget(gbitops=1.0)


def one_layer(weights):
    layer = Layer("conv", 10, 10, "relu", BITS, BITS)
    rising = {bits: 1 / bits for bits in BITS}
    return IndicatorTable(LayerTable((layer,)), {"conv": dict(zip(BITS, weights, strict=True))}, {"relu": rising})


def projection(values):
    """The best of all ways to cut the sequence into pools whose means rise: brute force."""
    best = None
    for cuts in itertools.product((False, True), repeat=len(values) - 1):
        ends = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(values)]
        fit = np.concatenate([[np.mean(values[a:b])] * (b - a) for a, b in itertools.pairwise(ends)])
        if (np.diff(fit) >= 0).all() and (best is None or ((fit - values) ** 2).sum() < ((best - values) ** 2).sum()):
            best = fit
    return best


@pytest.mark.parametrize("seed", range(20))
def test_the_repair_is_the_nearest_sequence_that_does_not_fall(seed):
    values = np.random.default_rng(seed).uniform(0, 1, 5)
    (outlier,) = allocate_bits(one_layer(values), EVERYTHING).outliers
    assert outlier.given == dict(zip(BITS, values, strict=True))
    np.testing.assert_allclose([outlier.searched_with[bits] for bits in BITS], projection(values), rtol=1e-12)
    assert math.fsum(outlier.searched_with.values()) == pytest.approx(values.sum())


@pytest.mark.parametrize("outliers", ["repair", "keep", "error"])
def test_indicators_in_order_are_left_alone_equal_ones_too(outliers):
    assert allocate_bits(one_layer((0.1, 0.1, 0.2, 0.2, 0.5)), EVERYTHING, outliers=outliers).outliers == ()


def test_kept_ones_are_reported_and_decide():
    indicators = one_layer((0.3, 0.1, 0.2, 0.4, 0.5))
    kept = allocate_bits(indicators, EVERYTHING, outliers="keep")
    assert kept.policy.bits["conv"] == (5, 6)
    (outlier,) = kept.outliers
    assert outlier == Outlier("weights", "conv", outlier.given, outlier.given)
    repaired = allocate_bits(indicators, EVERYTHING)
    assert repaired.objective == pytest.approx(0.2 + 1 / 6)


def test_refused_ones_are_named_with_their_values():
    with pytest.raises(InvalidIndicatorError, match=r"weights\['conv'\]=\{6: 0.3, 5: 0.1, .*Train longer"):
        allocate_bits(one_layer((0.3, 0.1, 0.2, 0.4, 0.5)), EVERYTHING, outliers="error")


def test_another_rule_is_refused():
    with pytest.raises(SearchOptionError, match="outliers='drop' must be one of 'repair', 'keep', 'error'"):
        allocate_bits(one_layer((0.1, 0.2, 0.3, 0.4, 0.5)), EVERYTHING, outliers="drop")


def test_the_published_indicators_have_two_and_the_published_policy_does_not_depend_on_them(fixtures):
    indicators = IndicatorTable.load(fixtures / "limpq_resnet50.json")
    budget = Budget(bitops_as=(3, 4), compression_ratio=12.2)
    found = {rule: allocate_bits(indicators, budget, alpha=2.0, outliers=rule) for rule in ("repair", "keep")}
    assert [outlier.name for outlier in found["keep"].outliers] == ["layer4.0.downsample.0", "layer4.2.conv3"]
    assert found["repair"].policy.bits == found["keep"].policy.bits
    assert found["repair"].objective == pytest.approx(4.617439227, abs=1e-9)
