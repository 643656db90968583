"""``"target": "cpu"``: weights are searched up to 7 bits, and everything else is at 8."""

import copy

import pytest
import torch
from nncf.torch import load_state
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import ConfigError
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight

CPU = {"target": "cpu", "budget": {"average_weight_bits": 4.5}}


@pytest.mark.parametrize("network", ["residual", "concat"])
def test_weights_have_at_most_7_bits_and_activations_exactly_8(compress, request, network):
    ctrl, _ = compress(request.getfixturevalue(network), **CPU)
    first, *searched, last = ctrl.table.layers
    assert {layer.weight_bits for layer in searched} == {(7, 6, 5, 4, 3, 2)}
    assert (first.weight_bits, last.weight_bits) == ((7,), (7,))
    assert {layer.activation_bits for layer in ctrl.table.layers} == {(8,)}
    # Those in front of residual additions, concatenations and pooling feed no layer.
    assert set(ctrl.table.unsearched.values()) <= {8}
    assert {quantizer.num_bits for quantizer in ctrl.quantizers.activations.values()} == {8}
    assert ctrl.policy.provenance["status"] == "optimal"
    counts = [layer.weight_count for layer in ctrl.table.layers]
    used = sum(ctrl.policy.bits[layer.name][0] * layer.weight_count for layer in ctrl.table.layers)
    assert used <= 4.5 * sum(counts)
    assert f"{ctrl.table.layers[1].name}" in ctrl.statistics().to_str()
    frozen = ctrl.strip()
    codes = [module.codes.abs().max() for module in frozen.modules() if isinstance(module, FrozenWeight)]
    assert max(codes) <= 64  # what u8 x s8 pairs can add up in int16: 2 x 255 x 64 < 2**15
    assert {m.num_bits for m in frozen.modules() if isinstance(m, FrozenActivationQuantizer)} == {8}


def test_inputs_of_residual_additions_are_at_8_bits_whatever_the_target(compress, residual):
    for section in ({}, {"candidate_bits": [4, 2], "fixed_bits": 6}, CPU):
        ctrl, _ = compress(copy.deepcopy(residual), **section)
        adds = [name for name in ctrl.table.unsearched if "batch_norm" in name or "conv2d" in name]
        assert len(adds) == 2
        assert {ctrl.quantizers.activations[name].num_bits for name in adds} == {8}


@pytest.mark.parametrize(
    "importance",
    [
        {"indicator": "normalized"},
        {"indicator": "statistics"},
        {"tie_weight_activation": True, "sampled_policies": 2, "per_bit_batch_norm": True},
    ],
    ids=lambda importance: "-".join(importance),
)
def test_the_ways_to_indicators_work_with_weights_alone(compress, residual, importance):
    ctrl, _ = compress(residual, **CPU, alpha="auto", search={"tied": True}, importance=importance)
    assert ctrl.compression_stage().name == "FULLY_COMPRESSED"


def test_bitops_are_counted_with_8_bit_activations(compress, residual):
    budget = {"bitops_as": {"weight_bits": 3, "activation_bits": 3}}
    ctrl, _ = compress(residual, target="cpu", budget=budget)
    most = sum(layer.macs * (7 if layer.is_fixed else 3) * 8 for layer in ctrl.table.layers)
    assert sum(layer.macs * ctrl.policy.bits[layer.name][0] * 8 for layer in ctrl.table.layers) <= most


def test_a_budget_out_of_reach_says_what_holds_it_there(compress, residual):
    with pytest.raises(InfeasibleBudgetError, match=r"smallest .* \(fixed: 'conv1' at W7, 'fc' at W7"):
        compress(copy.deepcopy(residual), target="cpu", budget={"average_weight_bits": 2})
    with pytest.raises(InfeasibleBudgetError, match=r"'conv1' at W7A8, 'conv2' at A8"):
        compress(residual, target="cpu", budget={"gbitops": 1e-5})


def test_the_users_loop_trains_searches_and_resumes(compress, residual, loader):
    section = {**CPU, "importance": {"where": "training", "epochs": 1}}
    ctrl, model = compress(copy.deepcopy(residual), **section)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        ctrl.scheduler.epoch_step()
        for x, target in loader:
            optimizer.zero_grad()
            for name in ctrl.policies():
                assert {quantizer.num_bits for quantizer in ctrl.quantizers.activations.values()} == {8}, name
                nn.functional.cross_entropy(model(x), target).backward()
            optimizer.step()
    state = ctrl.get_compression_state()
    resumed_ctrl, resumed = compress(copy.deepcopy(residual), compression_state=state, register=False, **section)
    load_state(resumed, model.state_dict(), is_resume=True)
    assert resumed_ctrl.table == ctrl.table
    x = next(iter(loader))[0]
    assert torch.equal(resumed.eval()(x), model.eval()(x))
    with pytest.raises(ConfigError, match=r"has the candidate bits \[6, 5, 4, 3, 2\].*, target and target_device"):
        compress(residual, compression_state=state, register=False)


def test_policies_below_8_bits_for_activations_do_not_fit(compress, residual, tmp_path):
    table = compress(copy.deepcopy(residual), **CPU)[0].table
    uniform = BitPolicy.uniform(table, weight_bits=4, activation_bits=4)
    assert uniform.bits["conv2"] == (4, 8)
    default = compress(copy.deepcopy(residual))[0].policy.save(tmp_path / "default.json")
    with pytest.raises(ArtifactError, match="activation bits"):
        compress(residual, target="cpu", policy=str(default))
