"""The keys shared with NNCF's quantization: what is refused is refused by name, with the remedy."""

import re

import pytest

from llt_nncf.config import NNCF_PROPERTIES
from llt_nncf.config import GroupRules
from llt_nncf.config import LltConfig
from llt_nncf.config import QuantizerRule
from llt_nncf.config import check_section
from llt_nncf.errors import ConfigError

MINIMAL = {"algorithm": "llt_quantization", "budget": {"gbitops": 1}}


def check(**section):
    check_section(section, NNCF_PROPERTIES, where="compression")


@pytest.mark.parametrize(
    ("section", "path", "remedy"),
    [
        ({"weights": {"mode": "asymmetric"}}, "weights.mode='asymmetric'", "symmetric"),
        ({"activations": {"mode": "asymmetric"}}, "activations.mode='asymmetric'", "symmetric"),
        (
            {"scope_overrides": {"weights": {"a": {"mode": "asymmetric"}}}},
            "scope_overrides.weights.a.mode",
            "symmetric",
        ),
        ({"preset": "mixed"}, "preset='mixed'", "performance"),
        ({"weights": {"signed": False}}, "weights.signed=False", "give true"),
        ({"activations": {"per_channel": True}}, "activations.per_channel=True", "give false"),
        ({"scope_overrides": {"activations": {"a": {"per_channel": True}}}}, "activations.a.per_channel", "give false"),
        ({"weights": {"logarithm_scale": True}}, "weights.logarithm_scale=True", "step_size_learning_rate"),
        ({"activations": {"logarithm_scale": True}}, "activations.logarithm_scale=True", "step_size_learning_rate"),
        ({"export_to_onnx_standard_ops": False}, "export_to_onnx_standard_ops=False", "OpenVINO reads too"),
        ({"params": {"batch_multiplier": 2}}, "params", "compression.importance"),
        ({"initializer": {"precision": {"type": "hawq"}}}, "initializer.precision", "compression.budget"),
        ({"weights": {"validate_scopes": False}}, "weights.validate_scopes=False", "compression.validate_scopes"),
        (
            {"scope_overrides": {"weights": {"a": {"initializer": {"range": {}}}}}},
            "scope_overrides.weights.a.initializer",
            "compression.initializer.range as a list",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_is_refused_by_name_with_the_remedy(section, path, remedy):
    with pytest.raises(ConfigError) as caught:
        check(**section)
    (line,) = str(caught.value).splitlines()[1:]
    assert re.search(rf"compression\..*{re.escape(path)}.* is refused: ", line) or line.startswith(
        f"  compression.{path} is"
    )
    assert remedy in line
    assert "unknown key" not in line


def test_the_other_values_of_these_keys_pass():
    groups = {"mode": "symmetric", "logarithm_scale": False, "signed": True}
    check(
        preset="performance",
        weights={**groups, "per_channel": True, "bits": [8, 2]},
        activations={**groups, "per_channel": False, "bits": 4},
        export_to_onnx_standard_ops=True,
        scope_overrides={"weights": {"{re}conv.*": {"bits": 3, "mode": "symmetric"}}},
    )


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"weights": {"bits": 9}}, ["compression.weights.bits=9", "at most 8"]),
        ({"weights": {"bits": [4, 1]}}, ["compression.weights.bits[1]=1", "at least 2"]),
        ({"weights": {"bits": True}}, ["compression.weights.bits=True", "of type integer or array"]),
        ({"weights": {"bits": 4.0}}, ["compression.weights.bits=4.0", "of type integer or array"]),
        ({"weights": {"bits": 10**400}}, ["compression.weights.bits=1000", "of type integer or array"]),
        ({"weights": {"bits": []}}, ["compression.weights.bits=[]", "length of at least 1"]),
        ({"weights": {"bit": 4}}, ["compression.weights.bit: unknown key", "'bits'"]),
        ({"scope_overrides": {"weight": {}}}, ["compression.scope_overrides.weight: unknown key", "'weights'"]),
        ({"scope_overrides": {"weights": {"a": {}}}}, ["compression.scope_overrides.weights.a: is empty", "bits"]),
        ({"scope_overrides": {"weights": {"{re}(": {"bits": 4}}}}, ["'{re}('", "no regular expression"]),
        ({"ignored_scopes": ["{re}[a", "b"]}, ["compression.ignored_scopes", "'{re}[a'", "no regular expression"]),
        ({"initializer": {"range": {"type": "minmax"}}}, ["compression.initializer.range.type='minmax'", "'min_max'"]),
        (
            {"initializer": {"range": [{"type": "min_max"}]}},
            ["range[0]: give target_scopes or ignored_scopes."],
        ),
        ({"initializer": {"range": [{"target_scope": "a"}]}}, ["initializer.range[0].target_scope: unknown key"]),
        ({"initializer": {"range": {"params": {"min_percentile": 101}}}}, ["min_percentile=101", "at most 100"]),
        ({"initializer": {"range": {"num_init_samples": -1}}}, ["num_init_samples=-1", "at least 0"]),
        ({"compression_lr_multiplier": float("nan")}, ["compression_lr_multiplier=nan", "of type number"]),
        ({"compression_lr_multiplier": 10**400}, ["compression_lr_multiplier=1000", "of type number"]),
        ({"overflow_fix": "on"}, ["compression.overflow_fix='on'", "'first_layer_only'"]),
        ({"activations": {"unified_scale_ops": [["a"]]}}, ["activations.unified_scale_ops[0]", "at least 2"]),
        ({"quantize_inputs": 1}, ["compression.quantize_inputs=1", "boolean"]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_values_are_worded_with_their_paths(section, words):
    with pytest.raises(ConfigError) as caught:
        check(**section)
    for word in words:
        assert word in str(caught.value)


def test_refusals_and_other_faults_are_reported_at_once():
    with pytest.raises(ConfigError, match="3 faults") as caught:
        check(preset="mixed", params={}, overflow_fix=1)
    assert all(f"compression.{key}" in str(caught.value) for key in ("preset", "params", "overflow_fix"))


def test_rules_are_read_by_group_and_scope():
    section = {
        **MINIMAL,
        "weights": {"bits": [2, 8]},
        "activations": {"bits": 4, "signed": True},
        "scope_overrides": {"weights": {"a": {"bits": 3, "per_channel": True}}},
    }
    config = LltConfig.from_section(section)
    assert config.weights == GroupRules(QuantizerRule((8, 2)), {"a": QuantizerRule((3,), None, True)})
    assert config.activations == GroupRules(QuantizerRule((4,), True))


def test_the_npu_has_candidates_of_its_own_and_refuses_what_contradicts_it():
    assert LltConfig.from_section(MINIMAL, target_device="NPU").candidate_bits == (8, 4, 2)
    assert LltConfig.from_section(MINIMAL, target_device="GPU").candidate_bits == (6, 5, 4, 3, 2)
    given = LltConfig.from_section({**MINIMAL, "candidate_bits": [4, 8]}, target_device="NPU")
    assert given.candidate_bits == (8, 4)
    with pytest.raises(ConfigError) as caught:
        LltConfig.from_section({**MINIMAL, "target": "cpu", "preset": "performance"}, target_device="NPU")
    assert 'compression.target="cpu": contradicts target_device="NPU"' in str(caught.value)
    assert "compression.preset: NNCF has none for the NPU" in str(caught.value)


def test_the_cpu_target_refuses_bits_of_groups_and_scopes_that_contradict_it():
    section = {
        **MINIMAL,
        "target": "cpu",
        "weights": {"bits": 8},
        "activations": {"bits": 4},
        "scope_overrides": {"weights": {"a": {"bits": [8, 4]}}, "activations": {"b": {"bits": 8}, "c": {"bits": 6}}},
    }
    with pytest.raises(ConfigError) as caught:
        LltConfig.from_section(section)
    assert [line.partition("=")[0] for line in str(caught.value).splitlines()] == [
        "compression.weights.bits",
        "compression.scope_overrides.weights.a.bits",
        "compression.activations.bits",
        "compression.scope_overrides.activations.c.bits",
    ]
