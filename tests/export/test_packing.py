"""Packed files against unpacked ones: the same integers, the same kernels, the bytes that were promised."""

import json

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ExportError
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import model_files
from llt_nncf.export import packing
from llt_nncf.export.openvino_packing import pack_ir_weights
from llt_nncf.quantizers import FrozenWeight
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from tests.export.frozen_models import CHANNELS
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Layer
from tests.export.frozen_models import calibrate
from tests.export.frozen_models import quantizer
from tests.export.layer_kinds import Grid
from tests.export.layer_kinds import Patterns


@pytest.fixture
def everything_packed(monkeypatch):
    """Packs small layers too, although their files become larger by it."""
    monkeypatch.setattr(packing, "_UNPACKING_BYTES", 0)


def codes_in(path) -> dict[str, np.ndarray]:
    """Computes every tensor ``<layer>/codes`` of int8 by the reference implementation of ONNX."""
    graph = onnx.load(path).graph
    result = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8}
    nodes = [node for node in graph.node if node.output[0].startswith("llt/u") or node.op_type == "Cast"]
    wanted = [node.output[0] for node in nodes if node.output[0].endswith("/codes")]
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT8, None) for name in wanted]
    unpacking = onnx.helper.make_graph(nodes, "unpacking", [], outputs, graph.initializer)
    model = onnx.helper.make_model(unpacking, opset_imports=[onnx.helper.make_opsetid("", 17)])
    result |= dict(zip(wanted, ReferenceEvaluator(model).run(None, {}), strict=True)) if wanted else {}
    return {name: codes for name, codes in result.items() if name.endswith("/codes")}


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("num_bits", range(2, 9))
def test_packed_files_give_the_same_outputs_by_the_same_kernels(num_bits, per_channel, tmp_path, everything_packed):
    torch.manual_seed(0)
    x = torch.randn(3, CHANNELS, SIZE, SIZE)
    model = Patterns(Grid(num_bits, signed=True, per_channel=per_channel, is_exact=False))
    calibrate(model, x, is_exact=False)
    layers = [module.name for module in model.modules() if isinstance(module, FrozenWeight)]
    policy = BitPolicy(dict.fromkeys(layers, (num_bits, num_bits)))
    outputs, kernels = [], []
    for packed in (False, True):
        path = tmp_path / f"{packed}.onnx"
        export_onnx(model, x[:1], path, policy=policy, output_names=model.outputs, packed=packed)
        runners = [OnnxRuntimeRunner(path), OpenVinoRunner(path)]
        # The IR from either file: it unpacks before it packs in its own types.
        runners += [
            OpenVinoRunner(export_openvino(path, tmp_path / f"{packed}{ir_packed}.xml", packed=ir_packed))
            for ir_packed in (False, True)
        ]
        outputs.append([runner.run_outputs(x.numpy(), model.outputs) for runner in runners])
        kernels.append([runner.kernels(layers) for runner in runners])
    unpacked_codes, packed_codes = codes_in(tmp_path / "False.onnx"), codes_in(tmp_path / "True.onnx")
    assert {name: codes.tolist() for name, codes in packed_codes.items()} == {
        name: codes.tolist() for name, codes in unpacked_codes.items()
    }
    assert len(packed_codes) == len(layers)
    assert kernels[1] == kernels[0]
    assert kernels[0][2] == kernels[0][3]
    # Transposed convolutions have no integer kernel in ONNX Runtime, and for signed inputs none in OpenVINO.
    assert all(kernel[1] for by_layer in kernels[0] for layer, kernel in by_layer.items() if layer != "transposed")
    for unpacked_outputs, packed_outputs in zip(*outputs, strict=True):
        for wanted, found in zip(unpacked_outputs, packed_outputs, strict=True):
            np.testing.assert_array_equal(found, wanted)
    for wanted, found in zip(outputs[0][2], outputs[0][3], strict=True):
        np.testing.assert_array_equal(found, wanted)


class Wide(nn.Module):
    """One layer with enough weights to be worth packing; optionally with channels that a batch norm has negated."""

    def __init__(self, num_bits, *, channels=64, is_negated=False):
        super().__init__()
        self.q = quantizer("in", 8)
        self.conv = Layer("conv", self.q, (channels, 64, 3, 3), num_bits=num_bits, padding=1)
        high = 2 ** (num_bits - 1)
        codes = torch.randint(-high, high, (channels, 64, 3, 3))
        codes[:, 0, 0, 0] = -high
        if is_negated:
            codes[::2] *= -1
        self.conv.frozen_weight.codes.copy_(codes)
        self.out_q = quantizer("out", 8, True)

    def forward(self, x):
        return self.out_q(self.conv(self.q(x)))


def export_wide(model, folder, **kwargs):
    x = torch.rand(2, 64, 5, 5)
    calibrate(model, x, is_exact=True)
    policy = BitPolicy({"conv": (model.conv.frozen_weight.num_bits, 8)})
    with torch.no_grad():
        return export_onnx(model, x[:1], folder / "model.onnx", policy=policy, **kwargs), x.numpy(), model(x).numpy()


@pytest.mark.parametrize("is_negated", [False, True], ids=["plain", "negated"])
@pytest.mark.parametrize("num_bits", range(2, 8))
def test_weights_take_their_bits(num_bits, is_negated, tmp_path):
    torch.manual_seed(0)
    path, x, wanted = export_wide(Wide(num_bits, is_negated=is_negated), tmp_path, packed=True)
    planes = [t for t in onnx.load(path).graph.initializer if t.name.startswith("conv/packed_")]
    promised = num_bits * 64 * 64 * 9 / 8
    assert sum(len(plane.raw_data) for plane in planes) == promised
    xml_path = export_openvino(path, tmp_path / "model.xml", packed=True)
    # Beside the weights there are a step size, a bias and perhaps a start value for each of 64 channels, all float32.
    assert promised <= xml_path.with_suffix(".bin").stat().st_size <= promised + 3 * 4 * 64 + 128
    assert path.stat().st_size <= 1.03 * promised + 3 * 4 * 64 + 3000
    for runner in (OnnxRuntimeRunner(path), OpenVinoRunner(path), OpenVinoRunner(xml_path)):
        np.testing.assert_array_equal(runner.run(x), wanted)
        assert runner.kernels(["conv"])["conv"][1]


def test_codes_beyond_their_bits_are_stored_at_what_they_need(tmp_path):
    """One channel that holds both -8 and 8 takes 5 bits."""
    torch.manual_seed(0)
    model = Wide(4)
    model.conv.frozen_weight.codes[0, 1, 0, 0] = 8
    path, x, wanted = export_wide(model, tmp_path, packed=True)
    planes = {t.name for t in onnx.load(path).graph.initializer if t.name.startswith("conv/packed_")}
    assert planes == {"conv/packed_4", "conv/packed_1"}
    xml_path = export_openvino(path, tmp_path / "model.xml", packed=True)
    for runner in (OnnxRuntimeRunner(path), OpenVinoRunner(path), OpenVinoRunner(xml_path)):
        np.testing.assert_array_equal(runner.run(x), wanted)


def test_layers_too_small_to_gain_and_layers_of_8_bits_stay_int8(tmp_path):
    torch.manual_seed(0)
    for model in (Wide(3, channels=1), Wide(8)):
        path, _, _ = export_wide(model, tmp_path, packed=True)
        assert [t.data_type for t in onnx.load(path).graph.initializer if t.name == "conv/codes"] == [3]


def test_ir_without_a_policy_is_packed_by_what_the_codes_need(tmp_path):
    torch.manual_seed(0)
    path, x, wanted = export_wide(Wide(3), tmp_path)
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    xml_path = export_openvino(path, tmp_path / "model.xml", packed=True)
    kinds = {
        op.get_element_type() for op in ov.Core().read_model(xml_path).get_ops() if op.get_type_name() == "Constant"
    }
    assert ov.Type.u3 in kinds
    np.testing.assert_array_equal(OpenVinoRunner(xml_path).run(x), wanted)


def test_codes_of_4_bits_that_int4_does_not_hold_are_stored_all_the_same(tmp_path):
    """-3 to 12 are sixteen codes."""
    torch.manual_seed(0)
    model = Wide(5)
    model.conv.frozen_weight.codes.copy_(torch.randint(-3, 13, (64, 64, 3, 3)))
    model.conv.frozen_weight.codes[0, 0, 0, :2] = torch.tensor([-3, 12])
    x = torch.rand(2, 64, 5, 5)
    calibrate(model, x, is_exact=True)
    path = export_onnx(model, x[:1], tmp_path / "model.onnx")
    runner = OpenVinoRunner(export_openvino(path, tmp_path / "model.xml", packed=True))
    with torch.no_grad():
        np.testing.assert_array_equal(runner.run(x.numpy()), model(x).numpy())


def test_metadata_of_the_ir_names_openvino_and_the_onnx_files_digest(tmp_path):
    torch.manual_seed(0)
    path, _, _ = export_wide(Wide(3), tmp_path, packed=True)
    model = ov.Core().read_model(export_openvino(path, tmp_path / "model.xml", packed=True))
    versions = json.loads(model.get_rt_info(["llt_nncf", "versions"]).astype(str))
    assert versions["openvino"] == ov.get_version()
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert model.get_rt_info(["llt_nncf", "digest"]).astype(str) == metadata["llt_nncf.digest"]
    pack_ir_weights(model, {})  # nothing is left to pack


@pytest.mark.parametrize("opset", range(13, 21))
def test_every_opset_gives_the_same_integers(opset, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(3, CHANNELS, SIZE, SIZE)
    model = calibrate(Patterns(Grid(4, signed=False)), x, is_exact=True)
    path = tmp_path / "model.onnx"
    export_onnx(model, x[:1], path, output_names=model.outputs, packed=True, opset=opset)
    (version,) = (entry.version for entry in onnx.load(path).opset_import if entry.domain == "")
    assert version == opset
    with torch.no_grad():
        wanted = [output.numpy() for output in model(x)]
    for runner in (OnnxRuntimeRunner(path), OpenVinoRunner(path)):
        for found, expected in zip(runner.run_outputs(x.numpy(), model.outputs), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
        kernels = runner.kernels(["plain", "pool_fc"])
        assert all(is_integer for _, is_integer in kernels.values())


class Folded(nn.Module):
    """``F.fold`` is an operator of opset 18."""

    def __init__(self):
        super().__init__()
        self.q = quantizer("in", 8)
        self.conv = Layer("conv", self.q, (4, 4, 1), num_bits=4)

    def forward(self, x):
        return F.fold(self.q(x), (4, 4), (2, 2))


def test_the_opset_is_the_next_that_has_the_operators(tmp_path):
    path = export_onnx(Folded(), torch.rand(1, 8, 9), tmp_path / "model.onnx")
    assert {entry.version for entry in onnx.load(path).opset_import if entry.domain == ""} == {18}
    with pytest.raises(ExportError, match="col2im"):
        export_onnx(Folded(), torch.rand(1, 8, 9), tmp_path / "model.onnx", opset=17)


@pytest.mark.parametrize("opset", [12, 21])
def test_an_opset_that_cannot_be_written_is_refused(opset, tmp_path):
    with pytest.raises(ExportError, match="13 to 20"):
        export_onnx(Folded(), torch.rand(1, 8, 9), tmp_path / "model.onnx", opset=opset)


def test_data_too_large_for_one_file_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "MOST_BYTES_IN_ONE_FILE", 1000)
    torch.manual_seed(0)
    path, x, wanted = export_wide(Wide(5), tmp_path, packed=True)
    assert path.stat().st_size < 6000
    xml_path = export_openvino(path, tmp_path / "model.xml", packed=True)
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data", "model.xml", "model.bin"}
    for runner in (OnnxRuntimeRunner(path), OpenVinoRunner(path), OpenVinoRunner(xml_path)):
        np.testing.assert_array_equal(runner.run(x), wanted)
