"""Totals of a policy against a table worked out by hand."""

import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import PolicyCost
from llt_nncf.errors import ArtifactError


@pytest.fixture
def table():
    return LayerTable(
        (
            Layer("first", 1000, 2**20, "input", (8,), (8,)),
            Layer("middle", 300, 2**21, "middle", (4, 3, 2), (4, 3, 2)),
            Layer("last", 50, 2**20, "last", (4, 2), (8,)),
        )
    )


def test_totals_match_the_table_worked_out_by_hand(table):
    policy = BitPolicy({"first": (8, 8), "middle": (3, 2), "last": (4, 8)})
    cost = PolicyCost.from_policy(policy, table)
    #      first        middle      last
    assert cost.bitops == 1000 * 64 + 300 * 6 + 50 * 32 == 67_400
    assert cost.gbitops == pytest.approx(6.74e-5, rel=1e-15)
    # 2**20 weights at 8 bits are 1 MiB: 1 + 2 * 3/8 + 4/8.
    assert cost.weight_mib == 2.25
    # 4 * 2**20 weights of 32 bits are 16 MiB.
    assert cost.compression_ratio == pytest.approx(16 / 2.25, rel=1e-15)


def test_a_policy_that_does_not_fit_the_layers_is_refused(table):
    with pytest.raises(ArtifactError, match="middle"):
        PolicyCost.from_policy(BitPolicy({"first": (8, 8), "middle": (5, 2), "last": (4, 8)}), table)


def test_the_published_resnet50_policy_has_the_published_compression(fixtures):
    table = IndicatorTable.load(fixtures / "limpq_resnet50.json").table
    policy = BitPolicy.load(fixtures / "limpq_resnet50_policy.json")
    cost = PolicyCost.from_policy(policy, table)
    # The paper's Table: 12.2x and 7.97 MB (METHOD.md), with conv1 and fc at 8 bits.
    assert round(cost.compression_ratio, 1) == 12.2
    assert round(cost.weight_mib, 2) == 7.97
    assert cost.weight_count == 25_502_912  # ResNet-50 without biases and batch norm
