"""The variants with other bits for activations are what they are said to be."""

import dataclasses

import numpy as np
import onnx
import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.validation import cpu_target
from llt_nncf.validation.cpu_target import describe_target
from llt_nncf.validation.cpu_target import with_clips
from llt_nncf.validation.cpu_target import without_clips
from llt_nncf.validation.exported_model import ExportedModel
from tests.export.frozen_models import SIZE
from tests.validation.exported_folder import POLICY
from tests.validation.exported_folder import TABLE
from tests.validation.exported_folder import export_folder

SAMPLE = np.zeros((1, 3, SIZE, SIZE), np.float32)
MACS = {layer.name: layer.macs for layer in TABLE.layers}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return ExportedModel(export_folder(tmp_path_factory.mktemp("exported")) / "model.onnx")


@pytest.fixture
def weights_only(exported, tmp_path):
    """The same model with all activations at 8 bits."""
    onnx.save(without_clips(exported.proto), tmp_path / "model.onnx")
    return ExportedModel(tmp_path / "model.onnx")


def ranges(exported):
    return {
        name: (grid.low - grid.zero_point, grid.high - grid.zero_point) for name, grid in exported.activations.items()
    }


def test_variant_without_clips_gives_all_codes_of_8_bits_under_the_same_names(exported, weights_only):
    wanted = {name: (-128, 127) if grid.zero_point else (0, 255) for name, grid in exported.activations.items()}
    assert ranges(weights_only) == wanted
    assert ranges(exported)["fc1|0"] == (0, 15)  # the file itself is as it was
    onnx.checker.check_model(weights_only.proto, full_check=True)


def test_variant_with_clips_gives_the_codes_of_4_bits_where_it_is_told_to(weights_only, tmp_path):
    variant = with_clips(weights_only.proto, ["fc1|0", "block|0"])
    onnx.checker.check_model(variant, full_check=True)
    onnx.save(variant, tmp_path / "variant.onnx")
    assert ranges(ExportedModel(tmp_path / "variant.onnx")) == {
        **ranges(weights_only),
        "fc1|0": (0, 15),
        "block|0": (-8, 7),
    }


def test_policy_with_low_activations_is_compared_with_weights_only(exported):
    section = describe_target(exported, POLICY, TABLE, sample=SAMPLE, rounds=2)
    assert (section["mode"], section["other"]["mode"]) == ("weights and activations", "weights only")
    assert section["other"]["activation_bits"] == 8
    assert section["gbitops"] == pytest.approx(
        4 * (8 * MACS["stem"] + 4 * (MACS["block.conv"] + MACS["fc1"] + MACS["fc2"])) / 1e9
    )
    assert section["other"]["gbitops"] == pytest.approx(4 * 8 * sum(MACS.values()) / 1e9)
    for row in section["other"]["engines"].values():
        low, high = row["speed_up_quartiles"]
        assert 0 < low <= row["speed_up"] <= high
    assert set(section["other"]["engines"]) == {"onnxruntime", "openvino"}


def test_policy_of_weights_only_is_compared_with_4_bits_at_all_but_the_fixed_layers(weights_only):
    policy = BitPolicy({name: (bits, 8) for name, (bits, _) in POLICY.bits.items()})
    eights = LayerTable(tuple(dataclasses.replace(layer, activation_bits=(8,)) for layer in TABLE.layers))
    section = describe_target(weights_only, policy, eights, sample=SAMPLE, rounds=2)
    assert (section["mode"], section["other"]["mode"]) == ("weights only", "weights and activations")
    assert section["gbitops"] == pytest.approx(4 * 8 * sum(MACS.values()) / 1e9)
    assert section["other"]["gbitops"] == pytest.approx(
        4 * (8 * (MACS["stem"] + MACS["fc2"]) + 4 * (MACS["block.conv"] + MACS["fc1"])) / 1e9
    )
    assert set(section["other"]["engines"]) == {"onnxruntime", "openvino"}
    without_table = describe_target(weights_only, policy)
    assert without_table["mode"] == "weights only"
    assert "engines" not in without_table["other"]


def test_layers_whose_weights_need_8_bits_are_listed(exported, tmp_path):
    proto = onnx.load(exported.path)
    codes = next(tensor for tensor in proto.graph.initializer if tensor.name == "fc1/codes")
    array = onnx.numpy_helper.to_array(codes).copy()
    array.flat[0] = -65
    codes.CopyFrom(onnx.numpy_helper.from_array(array, codes.name))
    onnx.save(proto, tmp_path / "model.onnx")
    assert describe_target(exported, POLICY)["layers_that_may_saturate"] == []
    assert describe_target(ExportedModel(tmp_path / "model.onnx"), POLICY)["layers_that_may_saturate"] == ["fc1"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("Features\t: fp asimd asimddp\n", None),
        (None, None),
    ],
    ids=["avx512", "avx", "neither", "arm", "no-file"],
)
def test_vnni_is_read_from_the_flags_of_the_cpu(text, wanted, tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(cpu_target, "_CPU_INFO", file)
    assert cpu_target.has_vnni() is wanted
