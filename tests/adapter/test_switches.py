"""NNCF's switches of bits, signs, granularity and device do what docs/configuration.md says, or are refused."""

import copy
import re
from pathlib import Path

import onnx
import pytest
import torch
from nncf import NNCFConfig
from nncf.common.quantization.structs import QuantizationScheme
from nncf.config.schemata.algo.quantization import QUANTIZATION_SCHEMA
from nncf.torch import load_state
from nncf.torch.quantization.algo import DefaultQuantizerSetupDisambiguator
from nncf.torch.quantization.layers import PTQuantizerSpec
from nncf.torch.quantization.layers import SymmetricQuantizer
from torch import nn

from llt_nncf.adapter.nncf_schema import full_properties
from llt_nncf.config import NNCF_PROPERTIES
from llt_nncf.errors import ConfigError
from llt_nncf.functional import integer_range
from llt_nncf.quantizers import FrozenWeight

CONV1, CONV2, CONV3, DOWN = (f"Residual/NNCFConv2d[{name}]/conv2d_0" for name in ("conv1", "conv2", "conv3", "down"))
FC, ADD = "Residual/NNCFLinear[fc]/linear_0", "Residual/__add___0"
DEFAULT = (6, 5, 4, 3, 2)


def weight_bits(ctrl):
    return {layer.name: layer.weight_bits for layer in ctrl.table.layers}


def activation_bits(ctrl):
    return {layer.name: layer.activation_bits for layer in ctrl.table.layers}


def input_quantizer(ctrl, layer):
    return ctrl.quantizers.activations[ctrl.table.by_name[layer].activation_group]


def key_paths(properties, path=""):
    """The paths of all keys in a JSON schema's properties, those of lists and of any scope included."""
    for key, schema in properties.items():
        if not isinstance(schema, dict):
            continue
        yield f"{path}{key}"
        below = [schema, *schema.get("oneOf", []), schema.get("items", {})]
        below += [choice.get("items", {}) for choice in schema.get("oneOf", [])]
        below += [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties", {})]
        for part in below:
            if isinstance(part, dict) and "refused" not in schema:
                yield from key_paths(part.get("properties", {}), f"{path}{key}.")


def test_every_key_of_nncfs_quantization_is_known_and_on_the_page():
    ours = set(key_paths(full_properties()))
    refused = {path for path in ours if "refused" in _schema_at(path)}
    theirs = set(key_paths(QUANTIZATION_SCHEMA["properties"]))
    missing = {path for path in theirs - ours if not any(path.startswith(f"{key}.") for key in refused)}
    assert missing == set()
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    named = [path for path in set(key_paths(NNCF_PROPERTIES)) if path not in ("initializer", "weights", "activations")]
    assert [
        path for path in named if not {f"`{path}`", f"`{path.rpartition('.')[2]}`"} & set(re.findall("`.+?`", page))
    ] == []


def _schema_at(path):
    schema = {"properties": full_properties()}
    for key in path.split("."):
        parts = [schema, schema.get("items", {}), schema.get("additionalProperties", {})]
        found = [
            part["properties"][key] for part in parts if isinstance(part, dict) and key in part.get("properties", {})
        ]
        schema = found[0]
    return schema


@pytest.mark.parametrize("device", ["ANY", "CPU", "GPU", "TRIAL"])
def test_low_bits_live_in_int8_on_all_devices_but_the_npu(create, residual, device):
    ctrl, _ = create(residual, target_device=device)
    assert weight_bits(ctrl) == {"conv1": (8,), "conv2": DEFAULT, "down": DEFAULT, "conv3": DEFAULT, "fc": (8,)}
    assert activation_bits(ctrl) == weight_bits(ctrl)


@pytest.mark.parametrize("network", ["residual", "concat"])
def test_on_the_npu_quantizers_have_the_bits_of_nncfs_solver(create, network, request, monkeypatch, check_export):
    proposed = {}
    select = DefaultQuantizerSetupDisambiguator.select_final_quantizer_setup

    def watch(self, setup):
        for point in setup.quantization_points.values():
            bits = {config.num_bits for config in point.possible_qconfigs if config.num_bits <= 8}
            fed = tuple(sorted(point.directly_quantized_operator_node_names))
            proposed[point.is_weight_quantization_point(), fed] = tuple(sorted(bits, reverse=True))
        return select(self, setup)

    monkeypatch.setattr(DefaultQuantizerSetupDisambiguator, "select_final_quantizer_setup", watch)
    section = {"budget": {"average_weight_bits": 5}, "importance": {"epochs": 1}}
    ctrl, _ = create(request.getfixturevalue(network), section, target_device="NPU")
    points = ctrl.get_compression_state()["builder_state"]["llt_quantization"]["quantizer_setup"]["quantization_points"]
    searched = 0
    for point in points.values():
        found = tuple(point["qspec"]["candidate_bits"])
        fed = tuple(sorted(point["directly_quantized_operator_node_names"]))
        is_weight = point["qspec"]["is_quantized_on_export"]
        if len(found) > 1:
            searched += 1
            assert found == proposed[is_weight, fed]
        else:
            assert found == (8,)
    assert searched >= 5
    if network == "concat":
        # relu_0 feeds a depthwise convolution, for whose input the NPU has 8 bits alone.
        assert activation_bits(ctrl)["right"] == (8,)
        assert activation_bits(ctrl)["merge"] == (8, 4)
    assert {bits for pair in ctrl.policy.bits.values() for bits in pair} <= {8, 4, 2}
    check_export(ctrl)


def test_candidates_that_the_npu_does_not_have_are_refused_with_the_quantizers(create, residual):
    ctrl, _ = create(copy.deepcopy(residual), {"candidate_bits": [8, 7, 2]}, target_device="NPU")
    assert weight_bits(ctrl)["conv2"] == (8, 2)
    with pytest.raises(ConfigError) as caught:
        create(residual, {"candidate_bits": [7, 2], "fixed_bits": 6}, target_device="NPU")
    text = str(caught.value)
    assert f"the weights of '{CONV1}' can have [8, 4, 2] bits, and was to have [6]" in text
    assert f"the input of '{CONV3}' can have [8, 4] bits, and was to have [7, 2]" in text
    assert f"the weights of '{CONV2}'" not in text


def test_what_contradicts_the_npu_is_refused_before_nncf_sees_it(create, residual):
    with pytest.raises(ConfigError, match="compression.preset: NNCF has none for the NPU; remove it"):
        create(residual, {"preset": "performance"}, target_device="NPU")


def test_faults_outside_the_section_are_refused_when_the_config_is_loaded():
    content = {"input_info": {"sample_size": [1, 2, 7, 9]}, "target_device": "CPU_SPR"}
    content |= {"ignored_scopes": "{re}(", "compression_lr_multiplier": -1}
    content["compression"] = {"algorithm": "llt_quantization", "budget": {"gbitops": 1}, "preset": "mixed"}
    with pytest.raises(ConfigError, match=r"4 faults") as caught:
        NNCFConfig.from_dict(content)
    text = str(caught.value)
    assert "target_device='CPU_SPR': is not supported; give one of ANY, CPU" in text
    assert "  ignored_scopes='{re}(': '{re}(' is no regular expression" in text
    assert "  compression_lr_multiplier=-1: must be at least 0" in text


def test_bits_of_a_group_are_its_candidates_or_its_one_bit_width(create, residual, check_export):
    importance = {"epochs": 1, "tie_weight_activation": True, "per_bit_batch_norm": True}
    section = {"weights": {"bits": [7, 3]}, "activations": {"bits": 5}, "importance": importance}
    ctrl, _ = create(residual, {**section, "budget": {"average_weight_bits": 5}})
    assert weight_bits(ctrl) == {"conv1": (8,), "conv2": (7, 3), "down": (7, 3), "conv3": (7, 3), "fc": (8,)}
    assert activation_bits(ctrl) == {"conv1": (8,), "conv2": (5,), "down": (5,), "conv3": (5,), "fc": (8,)}
    assert set(ctrl.indicators.weights["conv2"]) == {7, 3}
    check_export(ctrl)


def test_the_loop_trains_every_bit_width_that_some_quantizer_has(create, residual, loader):
    section = {
        "candidate_bits": [4, 2],
        "scope_overrides": {"weights": {CONV2: {"bits": [8, 7]}}},
        "importance": {"where": "training"},
    }
    ctrl, model = create(residual, section)
    x, target = next(iter(loader))
    used, names = [], []
    for name in ctrl.policies():
        names.append(name)
        used.append((ctrl.quantizers.weights["conv2"].num_bits, ctrl.quantizers.weights["conv3"].num_bits))
        nn.functional.cross_entropy(model(x), target).backward()
    assert names == ["uniform-8", "uniform-7", "uniform-4", "uniform-2", "sampled-0"]
    assert used[:4] == [(8, 4), (7, 4), (7, 4), (7, 2)]
    for quantizer in ctrl.quantizers.weights.values():
        assert bool((quantizer.raw_step_sizes.grad != 0).all())


def test_bits_of_a_scope_go_before_those_of_the_group_and_of_first_and_last_layer(create, residual, check_export):
    overrides = {
        "weights": {"{re}\\[conv[12]": {"bits": [8, 4]}, CONV2: {"bits": 3}, FC: {"bits": 7}},
        "activations": {CONV1: {"bits": 6}, DOWN: {"bits": [8, 4]}, ADD: {"bits": 7}, "{re}adaptive": {"bits": [4, 3]}},
    }
    section = {"weights": {"bits": [5, 2]}, "scope_overrides": overrides}
    ctrl, _ = create(residual, section)
    assert weight_bits(ctrl) == {"conv1": (8, 4), "conv2": (3,), "down": (5, 2), "conv3": (5, 2), "fc": (7,)}
    # conv2 and down have one quantizer, and conv2 nothing of its own to say.
    assert activation_bits(ctrl) == {"conv1": (6,), "conv2": (8, 4), "down": (8, 4), "conv3": DEFAULT, "fc": (8,)}
    # The addition's two inputs; the pooling's, which is not searched, does not take a list.
    assert sorted(ctrl.table.unsearched.values()) == [7, 7, 8]
    check_export(ctrl)


def test_operations_with_one_quantizer_get_the_bits_that_they_have_in_common(create, residual):
    overrides = {CONV2: {"bits": [6, 4, 2]}, DOWN: {"bits": [8, 4, 2]}}
    ctrl, _ = create(copy.deepcopy(residual), {"scope_overrides": {"activations": overrides}})
    assert activation_bits(ctrl)["conv2"] == (4, 2)
    overrides = {CONV2: {"bits": [6, 4]}, DOWN: {"bits": 2}}
    with pytest.raises(ConfigError) as caught:
        create(residual, {"scope_overrides": {"activations": overrides}})
    assert f"no bit-width is among all that they are given: [6, 4] for '{CONV2}'; [2] for '{DOWN}'" in str(caught.value)


class CalledTwice(nn.Module):
    """A layer that is called on two inputs, between two others."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.fc = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 4)

    def forward(self, x):
        x = torch.relu(self.head(torch.relu(self.stem(x))))
        return self.fc(torch.relu(self.head(x)).mean((2, 3)))


def test_a_layer_that_is_called_twice_takes_one_bit_width(create):
    scope = "{re}head"
    ctrl, _ = create(CalledTwice(), {"scope_overrides": {"weights": {scope: {"bits": 5}}}})
    assert weight_bits(ctrl)["head"] == (5,)
    with pytest.raises(
        ConfigError, match=r"is called more than once, so its bits are not searched; give one bit-width"
    ):
        create(CalledTwice(), {"scope_overrides": {"weights": {scope: {"bits": [5, 4]}}}})


def test_activations_are_signed_or_unsigned_by_group_and_scope(create, residual, check_export):
    section = {
        "activations": {"signed": True},
        "scope_overrides": {"activations": {CONV3: {"signed": False}, CONV1: {"signed": False}}},
    }
    plain_copy = copy.deepcopy(residual)
    plain, _ = create(copy.deepcopy(residual))
    ctrl, _ = create(residual, section)
    # The image has both signs, everything else comes from a ReLU.
    assert [input_quantizer(plain, name).signed for name in ("conv1", "conv2", "conv3", "fc")] == [True] + [False] * 3
    assert [input_quantizer(ctrl, name).signed for name in ("conv1", "conv2", "conv3", "fc")] == [
        False,
        True,
        False,
        True,
    ]
    x = torch.tensor([-1.0, 0.5])
    assert input_quantizer(ctrl, "conv1")(x)[0] == 0  # what is below 0 is cut off
    check_export(ctrl)
    overrides = {CONV2: {"signed": True}, DOWN: {"signed": False}}
    with pytest.raises(
        ConfigError, match="one quantizer is to be signed true for .*conv2.*, false for .*down.*; give one"
    ):
        create(plain_copy, {"scope_overrides": {"activations": overrides}})


def test_weights_are_per_channel_by_group_and_scope(create, residual, check_export):
    weights = residual.conv2.weight.detach().clone(), residual.fc.weight.detach().clone()
    section = {
        "weights": {"per_channel": True, "bits": [8, 4]},
        "scope_overrides": {"weights": {CONV3: {"per_channel": False}}},
    }
    ctrl, _ = create(copy.deepcopy(residual), section)
    shapes = {name: quantizer.scale_shape for name, quantizer in ctrl.quantizers.weights.items()}
    assert shapes["conv2"] == (12, 1, 1, 1)
    assert shapes["conv3"] == (1,)
    per_channel = weights[0].abs().amax((1, 2, 3)) / 127
    torch.testing.assert_close(ctrl.quantizers.weights["conv2"].step_size(8).detach().flatten(), per_channel)
    ctrl, _ = create(residual, {"scope_overrides": {"weights": {FC: {"per_channel": True}}}})
    assert [ctrl.quantizers.weights[name].scale_shape for name in ("conv2", "fc")] == [(1,), (4, 1)]
    step_size = ctrl.quantizers.weights["fc"].step_size(8).detach().flatten()
    torch.testing.assert_close(step_size, weights[1].abs().amax(1) / 127)
    check_export(ctrl)


def test_preset_mode_and_standard_operations_at_their_only_values(create, residual, tmp_path):
    group = {"mode": "symmetric", "logarithm_scale": False}
    section = {"preset": "performance", "weights": group, "activations": group, "export_to_onnx_standard_ops": True}
    ctrl, _ = create(copy.deepcopy(residual), section)
    plain, _ = create(residual)
    assert ctrl.table == plain.table
    ctrl.export_model(str(tmp_path / "model.onnx"))
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}


def test_the_overflow_fix_makes_8_bit_weights_7_bit_ones(create, residual, check_export):
    section = {"candidate_bits": [8, 7, 4]}
    kept, _ = create(copy.deepcopy(residual), {**section, "overflow_fix": "disable"})
    enabled, _ = create(copy.deepcopy(residual), {**section, "overflow_fix": "enable"})
    first, _ = create(copy.deepcopy(residual), {**section, "overflow_fix": "first_layer_only"})
    gpu, _ = create(copy.deepcopy(residual), {**section, "overflow_fix": "enable"}, target_device="GPU")
    assert weight_bits(kept) == {"conv1": (8,), "conv2": (8, 7, 4), "down": (8, 7, 4), "conv3": (8, 7, 4), "fc": (8,)}
    assert weight_bits(enabled) == {"conv1": (7,), "conv2": (7, 4), "down": (7, 4), "conv3": (7, 4), "fc": (7,)}
    assert weight_bits(first) == {**weight_bits(kept), "conv1": (7,)}
    assert weight_bits(gpu) == weight_bits(kept)
    assert {activation_bits(ctrl)["conv2"] for ctrl in (kept, enabled, first, gpu)} == {(8, 7, 4)}
    codes = [module.codes for module in enabled.strip().modules() if isinstance(module, FrozenWeight)]
    assert max(int(code.abs().max()) for code in codes) <= 64
    check_export(enabled)
    half_range = PTQuantizerSpec(8, QuantizationScheme.SYMMETRIC, True, False, True, (1,), False)
    theirs = SymmetricQuantizer(half_range)
    assert (theirs.level_low, theirs.level_high) == integer_range(7, signed=True)


def test_a_resumed_model_has_the_bits_and_signs_of_its_scopes(create, residual, loader):
    overrides = {
        "weights": {CONV2: {"bits": [8, 3]}, FC: {"per_channel": True}},
        "activations": {CONV3: {"bits": 4, "signed": True}},
    }
    section = {"scope_overrides": overrides, "importance": {"where": "training"}}
    ctrl, model = create(copy.deepcopy(residual), section)
    state = ctrl.get_compression_state()
    resumed_ctrl, resumed = create(copy.deepcopy(residual), section, compression_state=state)
    load_state(resumed, model.state_dict(), is_resume=True)
    assert resumed_ctrl.table == ctrl.table
    assert input_quantizer(resumed_ctrl, "conv3").signed
    assert resumed_ctrl.quantizers.weights["fc"].scale_shape == (4, 1)
    x = next(iter(loader))[0]
    assert torch.equal(resumed.eval()(x), model.eval()(x))
    with pytest.raises(ConfigError, match=r"candidate bits \[6, 5, 4, 3, 2\], and the compression state"):
        create(copy.deepcopy(residual), {"importance": {"where": "training"}}, compression_state=state)
    with pytest.raises(ConfigError, match="overflow_fix, target and target_device"):
        create(residual, section, compression_state=state, target_device="NPU")
