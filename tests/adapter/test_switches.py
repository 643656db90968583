"""Every switch of NNCF's quantization section does what docs/configuration.md says, or is refused by name."""

import copy
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nncf import NNCFConfig
from nncf.common.quantization.structs import QuantizationScheme
from nncf.config.schemata.algo.quantization import QUANTIZATION_SCHEMA
from nncf.torch import create_compressed_model
from nncf.torch import load_state
from nncf.torch import register_default_init_args
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


@pytest.fixture
def create(loader):
    """Returns ``create(model, section, **keys of the whole config) -> (controller, model)``; it is not trained."""

    def run(model, section=(), *, compression_state=None, **top):
        content = {
            "input_info": {"sample_size": [1, 2, 7, 9]},
            "compression": {
                "algorithm": "llt_quantization",
                "budget": {"gbitops": 100.0},
                "importance": {"indicator": "statistics"},
                "initializer": {
                    "range": {"num_init_samples": 64},
                    "batchnorm_adaptation": {"num_bn_adaptation_samples": 0},
                },
                **dict(section),
            },
            **top,
        }
        config = register_default_init_args(NNCFConfig.from_dict(content), loader, criterion=nn.CrossEntropyLoss())
        return create_compressed_model(model, config, compression_state=compression_state, dump_graphs=False)

    return run


def weight_bits(ctrl):
    return {layer.name: layer.weight_bits for layer in ctrl.table.layers}


def activation_bits(ctrl):
    return {layer.name: layer.activation_bits for layer in ctrl.table.layers}


def input_quantizer(ctrl, layer):
    return ctrl.quantizers.activations[ctrl.table.by_name[layer].activation_group]


def assert_exports(ctrl, loader, folder):
    """ONNX Runtime computes what the frozen model computes."""
    ctrl.export_model(str(folder / "model.onnx"))
    x = next(iter(loader))[0]
    with torch.no_grad():
        frozen = ctrl.strip()(x).numpy()
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0], frozen, atol=1e-4)


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
def test_on_the_npu_quantizers_have_the_bits_of_nncfs_solver(create, network, request, monkeypatch, loader, tmp_path):
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
    assert_exports(ctrl, loader, tmp_path)


def test_candidates_that_the_npu_does_not_have_are_refused_with_the_quantizers(create, residual):
    ctrl, _ = create(copy.deepcopy(residual), {"candidate_bits": [8, 7, 2]}, target_device="NPU")
    assert weight_bits(ctrl)["conv2"] == (8, 2)
    with pytest.raises(ConfigError) as caught:
        create(residual, {"candidate_bits": [7, 2], "fixed_bits": 6}, target_device="NPU")
    text = str(caught.value)
    assert f"the weights of '{CONV1}' can have [8, 4, 2] bits, and was to have [6]" in text
    assert f"the input of '{CONV3}' can have [8, 4] bits, and was to have [7, 2]" in text
    assert f"the weights of '{CONV2}'" not in text


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


def test_bits_of_a_group_are_its_candidates_or_its_one_bit_width(create, residual, loader, tmp_path):
    importance = {"epochs": 1, "tie_weight_activation": True, "per_bit_batch_norm": True}
    section = {"weights": {"bits": [7, 3]}, "activations": {"bits": 5}, "importance": importance}
    ctrl, _ = create(residual, {**section, "budget": {"average_weight_bits": 5}})
    assert weight_bits(ctrl) == {"conv1": (8,), "conv2": (7, 3), "down": (7, 3), "conv3": (7, 3), "fc": (8,)}
    assert activation_bits(ctrl) == {"conv1": (8,), "conv2": (5,), "down": (5,), "conv3": (5,), "fc": (8,)}
    assert set(ctrl.indicators.weights["conv2"]) == {7, 3}
    assert_exports(ctrl, loader, tmp_path)


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


def test_bits_of_a_scope_go_before_those_of_the_group_and_of_first_and_last_layer(create, residual, loader, tmp_path):
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
    assert_exports(ctrl, loader, tmp_path)


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


def test_activations_are_signed_or_unsigned_by_group_and_scope(create, residual, loader, tmp_path):
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
    assert_exports(ctrl, loader, tmp_path)
    overrides = {CONV2: {"signed": True}, DOWN: {"signed": False}}
    with pytest.raises(
        ConfigError, match="one quantizer is to be signed true for .*conv2.*, false for .*down.*; give one"
    ):
        create(plain_copy, {"scope_overrides": {"activations": overrides}})


def test_weights_are_per_channel_by_group_and_scope(create, residual, loader, tmp_path):
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
    assert_exports(ctrl, loader, tmp_path)


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


def test_the_overflow_fix_makes_8_bit_weights_7_bit_ones(create, residual, loader, tmp_path):
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
    assert_exports(enabled, loader, tmp_path)
    half_range = PTQuantizerSpec(8, QuantizationScheme.SYMMETRIC, True, False, True, (1,), False)
    theirs = SymmetricQuantizer(half_range)
    assert (theirs.level_low, theirs.level_high) == integer_range(7, signed=True)


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ({"type": "min_max"}, lambda x: np.abs(x).max()),
        ({"type": "mean_min_max"}, lambda x: np.abs(x).reshape(2, -1).max(axis=1).mean()),
        ({"type": "percentile", "params": {"min_percentile": 10, "max_percentile": 90}}, None),
        ({"type": "mean_percentile", "params": {"min_percentile": 10, "max_percentile": 90}}, None),
        ({"type": "threesigma"}, None),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_ranges_start_as_initializer_range_says(create, residual, loader, init, expected):
    images = np.concatenate([batch.numpy() for batch, _ in loader])[:64]
    ctrl, _ = create(residual, {"initializer": {"range": {"num_init_samples": 64, **init}}})
    step_size = float(input_quantizer(ctrl, "conv1").step_size(8).detach())
    if "percentile" in init["type"]:
        low, high = np.percentile(images, (10, 90))
        np.testing.assert_allclose(step_size * 127, max(-low, high), rtol=0.1)
    elif expected is None:
        median = np.median(images)
        deviation = 1.4826 * np.median(np.abs(images - median))
        np.testing.assert_allclose(step_size * 127, np.abs(median) + 3 * deviation, rtol=0.1)
    else:
        np.testing.assert_allclose(step_size * 127, expected(images), rtol=0.02)


def test_ranges_start_by_layer_where_the_range_is_a_list(create, residual, loader):
    images = np.concatenate([batch.numpy() for batch, _ in loader])[:64]
    entries = [
        {"type": "min_max", "num_init_samples": 64, "target_scopes": ["{re}nncf_model_input"]},
        {
            "type": "percentile",
            "num_init_samples": 64,
            "target_scopes": "{re}.*",
            "ignored_scopes": ["{re}model_input"],
        },
    ]
    ctrl, _ = create(copy.deepcopy(residual), {"initializer": {"range": entries}})
    np.testing.assert_allclose(
        float(input_quantizer(ctrl, "conv1").step_size(8)) * 127, np.abs(images).max(), rtol=1e-5
    )
    by_group = [{**entries[0], "target_scopes": "{re}.*", "target_quantizer_group": "weights"}]
    with pytest.raises(ConfigError, match="compression.initializer.range: Location .* does not match any"):
        create(copy.deepcopy(residual), {"initializer": {"range": by_group}})
    with pytest.raises(ConfigError, match="matches more than one .* exactly one entry"):
        create(residual, {"initializer": {"range": [entries[0], {**entries[1], "ignored_scopes": []}]}})


def test_batch_norms_are_adapted_after_the_search_unless_the_samples_are_0(create, residual):
    before = residual.bn2.running_mean.clone()
    for samples, moves in ((0, False), (64, True)):
        initializer = {
            "range": {"num_init_samples": 64},
            "batchnorm_adaptation": {"num_bn_adaptation_samples": samples},
        }
        _, model = create(copy.deepcopy(residual), {"initializer": initializer})
        assert (not torch.equal(model.bn2.running_mean, before)) is moves


@pytest.mark.parametrize("form", [CONV3, [CONV3], "{re}conv3"], ids=["string", "list", "pattern"])
@pytest.mark.parametrize("place", ["config", "section"])
def test_ignored_scopes_stay_in_float(create, residual, form, place, loader, tmp_path):
    section, top = ({"ignored_scopes": form}, {}) if place == "section" else ({}, {"ignored_scopes": form})
    kept = copy.deepcopy(top)
    ctrl, _ = create(residual, {**section, "weights": {"ignored_scopes": [DOWN]}}, **top)
    assert set(ctrl.table.by_name) == {"conv1", "conv2", "fc"}
    assert top == kept  # NNCF would have added to the list
    # down's input is quantized for conv2 too; conv3's is not quantized at all.
    assert "relu_1" not in ctrl.quantizers.activations
    assert_exports(ctrl, loader, tmp_path)


def test_scopes_of_a_group_concern_that_group_alone(create, residual, loader, tmp_path):
    ctrl, _ = create(copy.deepcopy(residual), {"weights": {"ignored_scopes": CONV3}})
    assert "conv3" not in ctrl.table.by_name
    # Nothing quantized reads it, so that it is not searched.
    assert ctrl.table.unsearched["relu_1"] == 8
    assert_exports(ctrl, loader, tmp_path)
    ctrl, _ = create(copy.deepcopy(residual), {"activations": {"ignored_scopes": [CONV3]}})
    assert ctrl.table.by_name["conv3"].activation_group == "conv3 (float input)"
    assert_exports(ctrl, loader, tmp_path)
    ctrl, _ = create(
        residual, {"weights": {"target_scopes": [CONV1, CONV2]}, "activations": {"target_scopes": "{re}conv"}}
    )
    assert set(ctrl.table.by_name) == {"conv1", "conv2"}
    assert len(ctrl.quantizers.activations) == 3


@pytest.mark.parametrize("place", ["config", "section"])
def test_only_target_scopes_are_quantized(create, residual, place, loader, tmp_path):
    scopes = {"target_scopes": ["{re}\\[conv[12]", "{re}fc"]}
    ctrl, _ = create(residual, scopes if place == "section" else {}, **(scopes if place == "config" else {}))
    assert set(ctrl.table.by_name) == {"conv1", "conv2", "fc"}
    assert set(ctrl.table.unsearched) == set()
    assert_exports(ctrl, loader, tmp_path)


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


def test_without_validate_scopes_it_is_passed_over(create, residual):
    section = {"ignored_scopes": ["a"], "scope_overrides": {"weights": {"b": {"bits": 4}}}, "validate_scopes": False}
    ctrl, _ = create(residual, section, target_scopes=["{re}.*", "c"])
    assert len(ctrl.table.layers) == 5


def test_inputs_are_left_alone_and_outputs_are_quantized_on_request(create, residual, loader, tmp_path):
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
    assert_exports(ctrl, loader, tmp_path)


def test_operations_share_a_quantizer_where_unified_scale_ops_says_so(create, residual, concat, loader, tmp_path):
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
    assert_exports(ctrl, loader, tmp_path)
    # With those that NNCF unifies itself, and a depthwise layer's.
    names = [f"Concat/NNCFConv2d[{name}]/conv2d_0" for name in ("merge", "left")]
    ctrl, _ = create(concat, {"activations": {"unified_scale_ops": [names]}})
    assert len({ctrl.table.by_name[name].activation_group for name in ("left", "right", "merge")}) == 1
    assert_exports(ctrl, loader, tmp_path)


def test_operations_of_two_unified_groups_are_refused(create, residual):
    with pytest.raises(ConfigError, match=r"unified_scale_ops\[1\]: shares a quantizer with entry 0; make one entry"):
        create(residual, {"activations": {"unified_scale_ops": [[CONV2, CONV3], [DOWN, FC]]}})


def test_a_concatenation_without_unified_scales_has_no_one_grid(create, concat, loader, tmp_path):
    ctrl, _ = create(concat, target_device="TRIAL")
    merge = ctrl.table.by_name["merge"]
    assert merge.activation_group.endswith("(mixed input)")
    assert merge.activation_bits == (8,)
    assert [ctrl.quantizers.activations[name].num_bits for name in ("relu_1", "relu_2")] == [8, 8]
    assert_exports(ctrl, loader, tmp_path)


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
def test_what_embeddings_put_out_is_quantized_and_unified_by_a_concatenation(create, loader, tmp_path, device):
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
    assert_exports(ctrl, loader, tmp_path)
    section = {"scope_overrides": {"activations": overrides}}
    state = ctrl.get_compression_state()
    resumed_ctrl, resumed = create(Embedded(), section, compression_state=state, target_device=device)
    load_state(resumed, model.state_dict(), is_resume=True)
    assert resumed_ctrl.table == ctrl.table
    x = next(iter(loader))[0]
    assert torch.equal(resumed.eval()(x), model.eval()(x))


def test_embeddings_without_unified_scales_have_a_quantizer_each(create, loader, tmp_path):
    torch.manual_seed(0)
    ctrl, _ = create(Embedded(), {"activations": {"signed": True}}, target_device="TRIAL")
    assert ctrl.table.by_name["mix"].activation_group.endswith("(mixed input)")
    assert all(quantizer.signed for quantizer in ctrl.quantizers.activations.values())
    assert len([name for name in ctrl.table.unsearched if "embedding" in name]) == 2
    assert_exports(ctrl, loader, tmp_path)


def test_frozen_layers_are_quantized_and_do_not_move(create, residual, loader, tmp_path):
    residual.conv2.weight.requires_grad_(False)
    residual.bn2.weight.requires_grad_(False)
    residual.bn2.bias.requires_grad_(False)
    before = [tensor.detach().clone() for tensor in (residual.conv2.weight, residual.bn2.weight, residual.bn2.bias)]
    importance = {"weight_decay": 0.1, "learning_rate": 0.1, "restore_weights": False}
    moved = residual.conv3.weight.detach().clone()
    ctrl, model = create(residual, {"importance": importance, "budget": {"average_weight_bits": 4}})
    assert not torch.equal(model.conv3.weight, moved)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    x, target = next(iter(loader))
    for _ in ctrl.policies():
        nn.functional.cross_entropy(model(x), target).backward()
    optimizer.step()
    after = [model.conv2.weight, model.bn2.weight, model.bn2.bias]
    assert all(torch.equal(new, old) for new, old in zip(after, before, strict=True))
    assert len(ctrl.quantizers.weights["conv2"].candidate_bits) == 5
    assert bool(ctrl.quantizers.weights["conv2"].raw_step_sizes.grad.any())
    assert_exports(ctrl, loader, tmp_path)


@pytest.mark.parametrize("place", ["config", "section"])
def test_the_gradients_of_step_sizes_are_multiplied(create, residual, loader, place):
    x, target = next(iter(loader))

    def gradients(section, **top):
        ctrl, model = create(copy.deepcopy(residual), section, **top)
        model.eval()
        for _ in ctrl.policies():
            nn.functional.cross_entropy(model(x), target).backward()
        steps = {id(quantizer.raw_step_sizes) for quantizer in ctrl.quantizers.all()}
        grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        return grads, {name for name, parameter in model.named_parameters() if id(parameter) in steps}

    plain, names = gradients({})
    switch = {"compression_lr_multiplier": 0.25}
    multiplied, _ = gradients(switch if place == "section" else {}, **(switch if place == "config" else {}))
    for name, gradient in plain.items():
        assert torch.equal(multiplied[name], gradient * (0.25 if name in names else 1.0)), name
    assert any(bool(plain[name].any()) for name in names & set(plain))


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
    with pytest.raises(ConfigError, match=r"has \[6, 5, 4, 3, 2\], and the compression state"):
        create(copy.deepcopy(residual), {"importance": {"where": "training"}}, compression_state=state)
    with pytest.raises(ConfigError, match="the same target_device"):
        create(residual, section, compression_state=state, target_device="NPU")
