"""NNCF's switches of where quantizers are, and which operations share one."""

import copy

import numpy as np
import pytest
import torch
from nncf.torch import load_state
from torch import nn

from llt_nncf.errors import ConfigError
from llt_nncf.errors import StageError

CONV1, CONV2, CONV3, DOWN = (f"Residual/NNCFConv2d[{name}]/conv2d_0" for name in ("conv1", "conv2", "conv3", "down"))
FC, ADD = "Residual/NNCFLinear[fc]/linear_0", "Residual/__add___0"
DEFAULT = (6, 5, 4, 3, 2)


def input_quantizer(ctrl, layer):
    return ctrl.quantizers.activations[ctrl.table.by_name[layer].activation_group]


@pytest.mark.parametrize("form", [CONV3, [CONV3], "{re}conv3"], ids=["string", "list", "pattern"])
@pytest.mark.parametrize("place", ["config", "section"])
def test_ignored_scopes_stay_in_float(create, residual, form, place, check_export):
    section, top = ({"ignored_scopes": form}, {}) if place == "section" else ({}, {"ignored_scopes": form})
    ctrl, _ = create(residual, {**section, "weights": {"ignored_scopes": [DOWN]}}, **top)
    assert set(ctrl.table.by_name) == {"conv1", "conv2", "fc"}
    # down's input is quantized for conv2 too; conv3's is not quantized at all.
    assert "relu_1" not in ctrl.quantizers.activations
    check_export(ctrl)


def test_scopes_of_a_group_concern_that_group_alone(create, residual, check_export):
    ctrl, _ = create(copy.deepcopy(residual), {"weights": {"ignored_scopes": CONV3}})
    assert "conv3" not in ctrl.table.by_name
    # Nothing quantized reads it, so that it is not searched.
    assert ctrl.table.unsearched["relu_1"] == 8
    check_export(ctrl)
    ctrl, _ = create(copy.deepcopy(residual), {"activations": {"ignored_scopes": [CONV3]}})
    assert ctrl.table.by_name["conv3"].activation_group == "conv3 (float input)"
    check_export(ctrl)
    ctrl, _ = create(
        residual, {"weights": {"target_scopes": [CONV1, CONV2]}, "activations": {"target_scopes": "{re}conv"}}
    )
    assert set(ctrl.table.by_name) == {"conv1", "conv2"}
    assert len(ctrl.quantizers.activations) == 3


@pytest.mark.parametrize("place", ["config", "section"])
def test_only_target_scopes_are_quantized(create, residual, place, check_export):
    scopes = {"target_scopes": ["{re}\\[conv[12]", "{re}fc"]}
    ctrl, _ = create(residual, scopes if place == "section" else {}, **(scopes if place == "config" else {}))
    assert set(ctrl.table.by_name) == {"conv1", "conv2", "fc"}
    assert set(ctrl.table.unsearched) == set()
    check_export(ctrl)


@pytest.mark.parametrize(
    ("section", "top", "words"),
    [
        (
            {"ignored_scopes": ["Residual/NNCFConv2d[conv4]/conv2d_0"]},
            {},
            ["compression.ignored_scopes", "did you mean"],
        ),
        ({"weights": {"target_scopes": "{re}nothing"}}, {}, ["compression.weights.target_scopes", "the model has"]),
        ({}, {"target_scopes": "zzz"}, ["  target_scopes: 'zzz' matches nothing"]),
        ({"scope_overrides": {"weights": {ADD: {"bits": 4}}}}, {}, ["scope_overrides.weights", "matches nothing"]),
        (
            {"scope_overrides": {"activations": {"Residual/relu_0": {"bits": 4}}}},
            {},
            ["scope_overrides.activations: 'Residual/relu_0' matches nothing"],
        ),
        ({"activations": {"unified_scale_ops": [["a", CONV2]]}}, {}, ["unified_scale_ops[0]: 'a' matches nothing"]),
    ],
    ids=["ignored", "group", "config", "weights", "activations", "unified"],
)
def test_a_scope_that_matches_nothing_is_refused(create, residual, section, top, words):
    with pytest.raises(ConfigError) as caught:
        create(residual, section, **top)
    assert [word for word in [*words, "compression.validate_scopes: false"] if word not in str(caught.value)] == []


@pytest.mark.parametrize("section", [{"ignored_scopes": "{re}."}, {"weights": {"ignored_scopes": ["{re}."]}}])
def test_scopes_that_leave_no_layer_are_named(create, residual, section):
    with pytest.raises(StageError, match=r"ignored_scopes and target_scopes, of compression or of compress"):
        create(residual, section)


def test_without_validate_scopes_it_is_passed_over(create, residual):
    section = {"ignored_scopes": ["a"], "scope_overrides": {"weights": {"b": {"bits": 4}}}, "validate_scopes": False}
    ctrl, _ = create(residual, section, target_scopes=["{re}.*", "c"])
    assert len(ctrl.table.layers) == 5


def test_inputs_are_left_alone_and_outputs_are_quantized_on_request(create, residual, loader, check_export):
    plain, _ = create(copy.deepcopy(residual))
    ctrl, model = create(residual, {"quantize_inputs": False, "quantize_outputs": True})
    gone = set(plain.quantizers.activations) - set(ctrl.quantizers.activations)
    (output,) = set(ctrl.quantizers.activations) - set(plain.quantizers.activations)
    assert gone == {plain.table.by_name["conv1"].activation_group}
    assert ctrl.table.unsearched[output] == 8
    with torch.no_grad():
        y = ctrl.strip()(next(iter(loader))[0])
    steps = y / ctrl.quantizers.activations[output].step_size(8).detach()
    assert float((steps - steps.round()).abs().max()) < 1e-3
    check_export(ctrl)


def test_operations_share_a_quantizer_where_unified_scale_ops_says_so(create, residual, concat, check_export):
    plain, _ = create(copy.deepcopy(residual))
    assert plain.table.by_name["conv2"].activation_group != plain.table.by_name["conv3"].activation_group
    again = copy.deepcopy(residual)
    section = {"activations": {"unified_scale_ops": [[CONV2, CONV3]], "bits": [8, 4]}}
    ctrl, _ = create(residual, section)
    assert len({ctrl.table.by_name[name].activation_group for name in ("conv2", "conv3", "down")}) == 1
    assert len(ctrl.quantizers.activations) == len(plain.quantizers.activations) - 1
    # Its 8-bit range covers that of both.
    single, _ = create(copy.deepcopy(again), {"activations": {"bits": [8, 4]}})
    steps = [float(input_quantizer(single, name).step_size(8).detach()) for name in ("conv2", "conv3")]
    np.testing.assert_allclose(float(input_quantizer(ctrl, "conv2").step_size(8).detach()), max(steps), rtol=1e-6)
    check_export(ctrl)
    # With those that NNCF unifies itself, and a depthwise layer's.
    names = [f"Concat/NNCFConv2d[{name}]/conv2d_0" for name in ("merge", "left")]
    ctrl, _ = create(concat, {"activations": {"unified_scale_ops": [names]}})
    assert len({ctrl.table.by_name[name].activation_group for name in ("left", "right", "merge")}) == 1
    check_export(ctrl)


def test_operations_of_two_unified_groups_are_refused(create, residual):
    with pytest.raises(ConfigError, match=r"unified_scale_ops\[1\]: shares a quantizer with entry 0; make one entry"):
        create(residual, {"activations": {"unified_scale_ops": [[CONV2, CONV3], [DOWN, FC]]}})


def test_a_concatenation_without_unified_scales_has_no_one_grid(create, concat, check_export):
    ctrl, _ = create(concat, target_device="TRIAL")
    merge = ctrl.table.by_name["merge"]
    assert merge.activation_group.endswith("(mixed input)")
    assert merge.activation_bits == (8,)
    assert [ctrl.quantizers.activations[name].num_bits for name in ("relu_1", "relu_2")] == [8, 8]
    check_export(ctrl)


class Embedded(nn.Module):
    """The pattern's signs are looked up in two tables; what these and a layer put out is concatenated."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.side = nn.Embedding(2, 6), nn.Embedding(2, 6), nn.Linear(1, 4)
        self.mix, self.hidden, self.fc = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        index = (x.flatten(1) > 0).long()
        side = torch.relu(self.side(x.flatten(1).unsqueeze(2)))
        x = torch.cat([self.first(index), self.second(index), side], 2)
        return self.fc(torch.relu(self.hidden(torch.relu(self.mix(x)).mean(1))))


@pytest.mark.parametrize("device", ["ANY", "NPU"])
def test_what_embeddings_put_out_is_quantized_and_unified_by_a_concatenation(create, loader, device, check_export):
    torch.manual_seed(0)
    overrides = {"{re}mix": {"bits": 4}}
    ctrl, model = create(Embedded(), {"scope_overrides": {"activations": overrides}}, target_device=device)
    assert set(ctrl.table.by_name) == {"side", "mix", "hidden", "fc"}
    quantizer = input_quantizer(ctrl, "mix")
    assert quantizer.candidate_bits == (4,)
    assert quantizer.signed
    seen = []
    quantizer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    table = model.first.weight.detach().clone()
    with torch.no_grad():
        model.eval()(next(iter(loader))[0])
    assert len(seen) == 3  # one quantizer behind both tables and the layer
    assert all(len(output.unique()) <= 16 for _, output in seen)
    assert torch.equal(ctrl.strip().first.weight, table)
    check_export(ctrl)
    section = {"scope_overrides": {"activations": overrides}}
    state = ctrl.get_compression_state()
    resumed_ctrl, resumed = create(Embedded(), section, compression_state=state, target_device=device)
    load_state(resumed, model.state_dict(), is_resume=True)
    assert resumed_ctrl.table == ctrl.table
    x = next(iter(loader))[0]
    assert torch.equal(resumed.eval()(x), model.eval()(x))


def test_scopes_of_weights_do_not_leave_out_embeddings(create, check_export):
    with pytest.raises(ConfigError, match="compression.weights: its scopes leave out .*first.* stays in float"):
        create(Embedded(), {"weights": {"ignored_scopes": "{re}first"}})
    ctrl, _ = create(Embedded(), {"ignored_scopes": "{re}first"})
    assert input_quantizer(ctrl, "mix").candidate_bits == DEFAULT  # NNCF then quantizes what the table puts out
    check_export(ctrl)


def test_embeddings_without_unified_scales_have_a_quantizer_each(create, check_export):
    torch.manual_seed(0)
    ctrl, _ = create(Embedded(), {"activations": {"signed": True}}, target_device="TRIAL")
    assert ctrl.table.by_name["mix"].activation_group.endswith("(mixed input)")
    assert all(quantizer.signed for quantizer in ctrl.quantizers.activations.values())
    assert len([name for name in ctrl.table.unsearched if "embedding" in name]) == 2
    # What reads the concatenation is a float layer on three dimensions, whose input the engine's extended optimization
    # would quantize by itself.
    check_export(ctrl, basic=True)
