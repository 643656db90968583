import importlib.util
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.cost import PolicyCost
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import MissingDependencyError
from samples.compare.rivals.choice import is_within
from samples.compare.rivals.mct_search import choose
from samples.compare.rivals.mct_search import chosen_bits
from samples.compare.rivals.mct_search import nearest_below
from samples.compare.rivals.mct_search import policy_of
from samples.compare.rivals.mct_search import utilization

IS_INSTALLED = importlib.util.find_spec("model_compression_toolkit") is not None


class Graph:
    """What is read of MCT's graph: a chain of nodes."""

    def __init__(self, *nodes: SimpleNamespace):
        self.nodes = nodes

    def get_prev_nodes(self, node: SimpleNamespace) -> list[SimpleNamespace]:
        return [self.nodes[self.nodes.index(node) - 1]]

    def retrieve_preserved_quantization_node(self, node: SimpleNamespace) -> SimpleNamespace:
        return self.get_prev_nodes(node)[0] if node.name == "flatten" else node


def node(name: str, *, weights: int | None = None, activations: int | None = None) -> SimpleNamespace:
    attribute = SimpleNamespace(weights_n_bits=weights)
    return SimpleNamespace(
        name=name,
        final_weights_quantization_cfg=SimpleNamespace(get_attr_config=lambda key: {"weight": attribute}[key]),
        final_activation_quantization_cfg=SimpleNamespace(activation_n_bits=activations),
    )


GRAPH = [
    node("x", activations=8),
    node("conv1_bn", weights=6),
    node("relu1", activations=5),
    node("body_0_bn", weights=3),
    node("body_2", activations=4),
    node("body_3", weights=2),
    node("mean", activations=7),
    node("flatten"),
    node("linear", weights=6),
]


def test_layers_are_found_by_their_names_in_the_graph_and_fed_through_what_keeps_values(table):
    bits = chosen_bits(Graph(*GRAPH), table)
    assert bits == {"conv1": (6, 8), "body.0": (3, 5), "body.3": (2, 4), "linear": (6, 7)}
    assert policy_of(bits, table).bits == {"conv1": (8, 8), "body.0": (3, 5), "body.3": (2, 4), "linear": (8, 8)}


@pytest.mark.parametrize("graph", [GRAPH[:-1], [*GRAPH, node("linear_bn", weights=2)]], ids=["missing", "twice"])
def test_a_layer_that_is_not_there_once_is_an_error_that_names_it(table, graph):
    count = len(graph) - len(GRAPH) + 1
    with pytest.raises(ArtifactError, match=rf"linear: {count} nodes of MCT's graph are named linear or linear_bn"):
        chosen_bits(Graph(*graph), table)


def test_layers_of_one_activation_quantizer_get_the_most_bits_of_them():
    bits = (8, 4, 2)
    rows = tuple(Layer(name, 100, 100, "shared", bits, bits) for name in ("left", "right"))
    assert policy_of({"left": (2, 2), "right": (4, 8)}, LayerTable(rows)).bits == {"left": (2, 8), "right": (4, 8)}


def test_limits_are_lowered_by_what_fixed_layers_cost_beyond_the_bits_that_mct_sees(table):
    wanted = {"weight_bits": 10_000, "bitops": 2_000_000}
    # 8 instead of 6 bits for 72 + 64 weights, and with 8-bit inputs for 64 x 72 + 64 MACs.
    assert utilization(wanted, table, 6) == {
        "weights_memory": (10_000 - 2 * 136) / 8,
        "bops": 2_000_000 - 2 * 8 * (64 * 72 + 64),
    }


@pytest.mark.parametrize("excess", [0.9, 1.0, 1.3, 2.0])
def test_a_limit_that_is_exceeded_is_lowered_until_it_is_kept(table, excess: float):
    """The stand-in for MCT uses ``excess`` times what it is asked for."""
    asked = []

    def ask(part: float) -> BitPolicy:
        asked.append(part)
        return BitPolicy({}, {"used": excess * part})

    policy, part = nearest_below(ask, lambda policy: policy.provenance["used"])
    assert part in asked
    assert policy.provenance["used"] == pytest.approx(min(excess, 1.0), abs=0.05)
    assert policy.provenance["used"] <= 1
    assert len(asked) == 1 or excess > 1


def test_a_limit_that_is_never_kept_is_an_error():
    with pytest.raises(InfeasibleBudgetError, match="over the budget by our count in 6 attempts"):
        nearest_below(lambda part: BitPolicy({}), lambda policy: 1.5)


# MCT and what it needs warn at import and of their own calls.
@pytest.mark.filterwarnings("ignore")
def test_mct_chooses_within_size_and_bitops_or_says_how_to_install_it(small, table, weights_only, loader, capfd):
    loss = nn.CrossEntropyLoss()
    if not IS_INSTALLED:
        message = r"model-compression-toolkit .*pip install llt_nncf\[compare\]"
        with pytest.raises(MissingDependencyError, match=message):
            choose(small, table, Budget(bitops_as=(4, 4)), loader, loss, seed=0)
        return
    before = {name: value.clone() for name, value in small.state_dict().items()}
    for rows, budget in (
        (weights_only, Budget(average_weight_bits=4.0)),
        (table, Budget(bitops_as=(4, 4), compression_ratio=8.0)),
    ):
        choice = choose(small, rows, budget, loader, loss, seed=0)
        assert is_within(choice.policy, rows, budget)
        # Half of the budget left would mean that MCT counts in other units.
        cost = PolicyCost.from_policy(choice.policy, rows)
        assert cost.average_weight_bits > 3.0
        assert choice.passes > 4 / 3
    assert all(torch.equal(before[name], value) for name, value in small.state_dict().items())
    assert capfd.readouterr() == ("", "")  # neither bars nor its solver's log
    with pytest.raises(InfeasibleBudgetError, match=r"MCT finds no bits within the budget \(average_weight_bits\)"):
        choose(small, weights_only, Budget(average_weight_bits=2.2), loader, loss, seed=0)
