"""OpenVINO's format holds the same integers and the policy."""

import json

import numpy as np
import openvino as ov
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ExportError
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino_directly
from llt_nncf.export.openvino_ir import export_openvino
from llt_nncf.validation.runners import OpenVinoRunner
from tests.export.frozen_models import CHANNELS
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import Layer
from tests.export.frozen_models import calibrate
from tests.export.frozen_models import quantizer


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    model = calibrate(Classifier(), torch.randn(16, 3, SIZE, SIZE), is_exact=True)
    folder = tmp_path_factory.mktemp("ir")
    policy = BitPolicy(dict.fromkeys(Classifier.policy_bits, (4, 4)))
    onnx_path = export_onnx(model, torch.randn(1, 3, SIZE, SIZE), folder / "model.onnx", policy=policy)
    return model, policy, export_openvino(onnx_path, folder / "ir" / "model.xml")


def test_model_is_exact_and_runs_in_integers(exported):
    model, _, path = exported
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.bin", "model.xml"]
    runner = OpenVinoRunner(path)
    x = torch.randn(4, 3, SIZE, SIZE)
    with torch.no_grad():
        np.testing.assert_array_equal(runner.run(x.numpy()), model(x).numpy())
    kernels = runner.kernels(Classifier.policy_bits)
    assert all(kernels[name][1] for name in Classifier.policy_bits)


class Residual(nn.Module):
    """Two residual blocks, the second with a downsample, so that both inputs of its addition are convolutions."""

    def __init__(self, activation_bits):
        super().__init__()
        c = CHANNELS
        self.in_q = quantizer("input", 8, True)
        self.stem = Layer("stem", self.in_q, (c, 3, 3, 3), padding=1)
        self.q0 = quantizer("q0", activation_bits)
        self.conv1 = Layer("conv1", self.q0, (c, c, 3, 3), padding=1)
        self.q1 = quantizer("q1", 8, True)
        self.q2 = quantizer("q2", activation_bits)
        self.conv2 = Layer("conv2", self.q2, (c, c, 3, 3), padding=1)
        self.q3 = quantizer("q3", 8, True)
        self.down = Layer("down", self.q2, (c, c, 1, 1))
        self.q4 = quantizer("q4", 8, True)
        self.q5 = quantizer("q5", 8)

    def forward(self, x):
        x = self.q0(F.relu(self.stem(self.in_q(x))))
        x = self.q2(F.relu(self.q1(self.conv1(x)) + x))
        return self.q5(F.relu(self.q3(self.conv2(x)) + self.q4(self.down(x))))


@pytest.mark.parametrize("activation_bits", [4, 6, 8])
def test_residual_additions_are_exact(tmp_path, activation_bits):
    torch.manual_seed(0)
    x = torch.randn(8, 3, SIZE, SIZE)
    model = calibrate(Residual(activation_bits), x, is_exact=True)
    onnx_path = export_onnx(model, x[:1], tmp_path / "model.onnx")
    xml_path = export_openvino(onnx_path, tmp_path / "model.xml")
    with torch.no_grad():
        expected = model(x).numpy()
    runner = OpenVinoRunner(xml_path)
    np.testing.assert_array_equal(runner.run(x.numpy()), expected)
    assert all(is_integer for _, is_integer in runner.kernels(["stem", "conv1", "conv2", "down"]).values())
    # Reading the ONNX file itself, OpenVINO drops roundings. Once it does not, keep_rounding_before_additions can go.
    assert np.abs(OpenVinoRunner(onnx_path).run(x.numpy()) - expected).max() > 0


def test_policy_is_in_the_rt_info(exported):
    _, policy, path = exported
    rt_info = ov.Core().read_model(path).get_rt_info(["llt_nncf", "policy"])
    assert BitPolicy.from_dict(json.loads(rt_info.astype(str))) == policy


def test_nothing_is_written_when_conversion_fails(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not onnx")
    with pytest.raises(ExportError, match="broken.onnx"):
        export_openvino(broken, tmp_path / "model.xml")
    with pytest.raises(ExportError, match=".xml"):
        export_openvino(broken, tmp_path / "model.ir")
    assert list(tmp_path.iterdir()) == [broken]


def test_conversion_without_onnx_runs_in_integers_too(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(16, 3, SIZE, SIZE)
    model = calibrate(Classifier(), x, is_exact=True)
    with torch.no_grad():
        wanted = model(x).numpy()
        runner = OpenVinoRunner(export_openvino_directly(model, x[:1], tmp_path / "model.xml"))
        np.testing.assert_array_equal(model(x).numpy(), wanted)  # the model is left as it was
    # A quantizer between convolution and addition is not rounded, and its error is at most half a step.
    assert np.abs(runner.run(x.numpy()) - wanted).max() < 0.05 * np.abs(wanted).max()
    kernels = [node.get_rt_info() for node in runner._compiled.get_runtime_model().get_ordered_ops()]
    executed = [(info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for info in kernels]
    layers = [precision for kind, precision in executed if kind in ("Convolution", "FullyConnected")]
    assert len(layers) == len(Classifier.policy_bits)
    assert set(layers) <= {"u8", "i8"}


def test_a_model_that_cannot_be_converted_is_named_and_left_as_it_was(tmp_path):
    model = Classifier()
    with pytest.raises(ExportError, match="model.xml: OpenVINO cannot convert"):
        export_openvino_directly(model, torch.randn(1, 4, SIZE, SIZE), tmp_path / "model.xml")
    assert list(tmp_path.iterdir()) == []
    assert not any("forward" in vars(module) for module in model.modules())
