"""An exported file tells what is in it, and the policy that it was made by."""

import json
import subprocess
import sys

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.cli.main import main
from llt_nncf.errors import ArtifactError
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import packing
from llt_nncf.validation import read_contents
from llt_nncf.validation.exported_ir import ExportedIr
from llt_nncf.validation.exported_model import ExportedModel
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import calibrate
from tests.validation.exported_folder import POLICY
from tests.validation.exported_folder import export_folder
from tests.validation.packed_ir import pack_ir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = export_folder(tmp_path_factory.mktemp("exported"))
    bare = onnx.load(folder / "model.onnx")
    bare.ClearField("metadata_props")
    onnx.save(bare, folder / "bare.onnx")
    export_openvino(folder / "bare.onnx", folder / "bare.xml")
    ov.save_model(ov.Core().read_model(folder / "float.onnx"), folder / "float.xml")
    return folder


@pytest.mark.parametrize("kind", ["onnx", "xml"])
@pytest.mark.parametrize(("name", "source"), [("model", "metadata"), ("bare", "tensors")])
def test_policy_that_comes_out_is_the_one_that_went_in(folder, name, source, kind):
    contents = read_contents(folder / f"{name}.{kind}", with_kernels=False)
    assert contents.policy.bits == POLICY.bits
    assert contents.policy_source == source


def test_packed_files_name_their_containers_and_give_the_policy_back(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "_UNPACKING_BYTES", 0)  # packs layers as small as these
    torch.manual_seed(0)
    model = calibrate(Classifier(), torch.randn(16, 3, SIZE, SIZE), is_exact=True)
    x = torch.randn(1, 3, SIZE, SIZE)
    path = export_onnx(model, x, tmp_path / "model.onnx", policy=POLICY, packed=True)
    contents = [read_contents(path), read_contents(export_openvino(path, tmp_path / "model.xml", packed=True))]
    plain = read_contents(folder / "model.onnx", with_kernels=False)
    # A first channel that holds both -8 and 8 makes five bits of four.
    for packed, containers in zip(contents, ({"4-bit", "4-bit + 1-bit"}, {"i4", "u4", "u4 + u1"}), strict=True):
        assert packed.policy.bits == POLICY.bits
        for layer, unpacked in zip(packed.layers, plain.layers, strict=True):
            assert layer.container in containers
            assert layer.stored_bits == (5 if "+" in layer.container else 4)
            assert (layer.name, layer.needed_bits) == (unpacked.name, unpacked.needed_bits)
            assert all(kernel.startswith("int8") for kernel in layer.kernels.values())


def test_both_formats_hold_the_same_integers_and_grids(folder):
    ir, exported = ExportedIr(folder / "model.xml"), ExportedModel(folder / "model.onnx")
    assert list(ir.weights) == list(exported.weights) == list(POLICY.bits)
    for name, tensor in exported.weights.items():
        np.testing.assert_array_equal(ir.weights[name].codes, tensor.codes)
        np.testing.assert_array_equal(ir.weights[name].step_size, tensor.step_size)
        assert ir.quantizers_feeding(name) == exported.quantizers_feeding(name)
    assert ir.activations == exported.activations
    assert exported.neighbours == {"additions": ["/Add"], "poolings": ["/MaxPool"]}
    assert ir.neighbours["additions"] == ["/Add"]
    assert "/MaxPool" in ir.neighbours["poolings"]


def test_bounds_on_reals_in_front_of_the_rounding_are_read_like_bounds_on_codes(folder, tmp_path):
    exported = ExportedModel(folder / "model.onnx")
    proto = onnx.load(folder / "model.onnx")
    producers = {node.output[0]: node for node in proto.graph.node}
    for name, grid in exported.activations.items():
        clip = producers[f"{name}/codes"]
        if clip.op_type == "Clip":
            quantize = producers[clip.input[0]]
            for index, end, code in ((1, "low", grid.low), (2, "high", grid.high)):
                bound = np.float32((code - grid.zero_point) * grid.step_size)
                proto.graph.initializer.append(numpy_helper.from_array(np.asarray(bound), f"{name}/{end}"))
                clip.input[index] = f"{name}/{end}"
            clip.name = f"{name}/clipped"
            clip.input[0], quantize.input[0] = quantize.input[0], f"{name}/clipped"
            clip.output[0], quantize.output[0] = f"{name}/clipped", f"{name}/codes"
            nodes = proto.graph.node
            nodes.remove(clip)
            nodes.insert(list(nodes).index(quantize), clip)
    onnx.checker.check_model(proto)
    onnx.save(proto, tmp_path / "model.onnx")
    assert (
        ExportedIr(export_openvino(tmp_path / "model.onnx", tmp_path / "model.xml")).activations == exported.activations
    )


def test_contents_are_those_of_the_model(folder):
    contents = read_contents(folder / "model.onnx")
    layers = {layer.name: layer for layer in contents.layers}
    assert {name: layer.operator for name, layer in layers.items()} == {
        "stem": "Conv",
        "block.conv": "Conv",
        "fc1": "Gemm",
        "fc2": "Gemm",
    }
    conv = layers["block.conv"]
    assert (conv.container, conv.stored_bits, conv.stored_bytes, conv.weight_count) == ("int8", 8, 576, 8 * 8 * 9)
    assert (conv.weight_bits, conv.needed_bits, conv.step_sizes[0], conv.quantizers) == (4, 4, 8, ("stem|0",))
    assert {name: kernel.split()[0] for name, kernel in conv.kernels.items()} == {
        "onnxruntime": "int8",
        "openvino": "int8",
    }
    quantizers = {row.name: (row.num_bits, row.signed, row.low, row.high) for row in contents.activations}
    assert quantizers["input|0"] == quantizers["block|0"] == (8, True, -128, 127)
    assert quantizers["fc1|0"] == (4, False, 0, 15)
    assert contents.file_bytes == (folder / "model.onnx").stat().st_size
    sizes = [(folder / f"model.{kind}").stat().st_size for kind in ("xml", "bin")]
    assert read_contents(folder / "model.xml", with_kernels=False).file_bytes == sum(sizes)


@pytest.mark.parametrize("bits", [2, 3, 5, 6, 7])
def test_packed_ir_is_read_like_an_unpacked_one_and_its_planes_tell_the_bits(folder, tmp_path, bits):
    plain = ExportedIr(folder / "bare.xml")
    packed_path = pack_ir(folder / "bare.xml", tmp_path / "packed.xml", dict.fromkeys(POLICY.bits, bits))
    packed = ExportedIr(packed_path)
    for name, tensor in plain.weights.items():
        limit = 2 ** (bits - 1)
        np.testing.assert_array_equal(packed.weights[name].codes, np.clip(tensor.codes, -limit, limit - 1))
        np.testing.assert_array_equal(packed.weights[name].step_size, tensor.step_size)
    contents = read_contents(packed_path)
    assert contents.policy.bits == {name: (bits, activation) for name, (_, activation) in POLICY.bits.items()}
    for layer in contents.layers:
        assert layer.stored_bits == bits
        assert layer.container == {5: "u4 + u1", 7: "u6 + u1"}.get(bits, f"u{bits}")
        assert 0 <= layer.stored_bytes - bits * layer.weight_count / 8 < 8
        assert layer.kernels["openvino"].startswith("int8")


@pytest.mark.parametrize(
    ("step_size", "highest", "bits"),
    [pytest.param(0.5, 12, 4, id="12-of-15"), pytest.param(6 / 7, 7, 3, id="as-many-codes-as-3-bits-have")],
)
def test_range_that_relu6_has_narrowed_is_pointed_out(tmp_path, step_size, highest, bits):
    x = torch.randn(16, 3, SIZE, SIZE)
    model = calibrate(Classifier(), x, is_exact=True)
    model.stem_q.step_size.fill_(step_size)
    model.conv.put_bias_on_grid()
    path = export_onnx(model, x, tmp_path / "model.onnx")
    for file in (path, export_openvino(path, tmp_path / "model.xml")):
        contents = read_contents(file, with_kernels=False)
        assert (contents.policy.bits == POLICY.bits) is (bits == 4)
        note = f"'stem|0' was narrowed by an activation function to 0..{highest}: it has at least {bits} bits."
        assert f"The range of {note}" in contents.remarks


def test_policy_that_contradicts_the_tensors_is_not_handed_out(folder, tmp_path, capsys):
    proto = onnx.load(folder / "model.onnx")
    (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == "fc1/codes")
    tensor.CopyFrom(numpy_helper.from_array(np.full((8, 72), 9, np.int8), "fc1/codes"))
    onnx.save(proto, tmp_path / "changed.onnx")
    out = tmp_path / "policy.json"
    assert main(["inspect", str(tmp_path / "changed.onnx"), "--no-kernels", "--policy", str(out)]) == 2
    assert "The weights of 'fc1' need 5 bits; the policy gives them 4." in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", ["float.onnx", "float.xml"])
def test_float_model_is_refused(folder, name):
    with pytest.raises(ArtifactError, match=f"{name}: no integer weights"):
        read_contents(folder / name)


def test_files_that_are_no_models_are_refused(folder, tmp_path):
    (tmp_path / "text.xml").write_text("hello")
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "alone.xml").write_bytes((folder / "model.xml").read_bytes())
    for name in ("text.xml", "text.onnx", "missing.xml", "missing.onnx", "alone.xml", "policy.json"):
        with pytest.raises(ArtifactError, match=name):
            read_contents(tmp_path / name)


def test_step_size_that_is_none_is_named(folder, tmp_path):
    ir = ov.Core().read_model(folder / "model.xml")
    (quantizer,) = (op for op in ir.get_ordered_ops() if op.get_friendly_name() == "fc1|0/dequantize")
    quantizer.input(1).replace_source_output(ov.opset13.constant(np.float32(0)).output(0))
    ov.save_model(ir, tmp_path / "model.xml", compress_to_fp16=False)
    with pytest.raises(ArtifactError, match=r"step size of quantizer 'fc1\|0' is 0.0, and must be positive"):
        read_contents(tmp_path / "model.xml")


def test_layer_with_float_input_has_no_policy(folder, tmp_path, capsys):
    class Unquantized(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = calibrate(Classifier(), torch.randn(16, 3, SIZE, SIZE), is_exact=True).stem

        def forward(self, x):
            return self.stem(x)

    path = export_onnx(Unquantized(), torch.randn(1, 3, SIZE, SIZE), tmp_path / "model.onnx")
    assert main(["inspect", str(path), "--no-kernels"]) == 0
    assert "the input of 'stem' is not quantized" in capsys.readouterr().out
    assert main(["inspect", str(path), "--no-kernels", "--policy", str(tmp_path / "policy.json")]) == 2


@pytest.mark.parametrize("kind", ["onnx", "xml"])
def test_command_prints_everything_and_writes_the_policy(folder, tmp_path, capsys, kind, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "policy.json"
    assert main(["inspect", str(folder / f"model.{kind}"), "--policy", str(out)]) == 0
    text = capsys.readouterr().out
    for part in ("block.conv", "1448 weights in 1448 bytes", "llt_nncf.versions", "fc1|0", "0..15", "s8", "brgconv"):
        assert part in text
    assert BitPolicy.load(out) == POLICY
    assert main(["inspect", str(folder / f"model.{kind}"), "--json", "--no-kernels"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in printed["layers"]] == list(POLICY.bits)
    assert BitPolicy.from_dict(printed["policy"]) == POLICY


def test_command_imports_neither_torch_nor_nncf():
    code = "import sys, llt_nncf.cli.inspect; print([m for m in ('torch', 'nncf', 'onnx_ir') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
