"""An OpenVINO model says of itself what the ONNX file that it was made from says."""

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ArtifactError
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.validation import validate
from llt_nncf.validation.exported_ir import ExportedIr
from llt_nncf.validation.exported_model import ExportedModel
from tests.export.frozen_models import CHANNELS
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Layer
from tests.export.frozen_models import calibrate
from tests.export.frozen_models import quantizer
from tests.export.layer_kinds import Grid
from tests.export.layer_kinds import Patterns


class Tokens(nn.Module):
    """A linear layer on three dimensions, whose weights ONNX has transposed, and outputs that are scaled or not."""

    def __init__(self, last):
        super().__init__()
        self.q = quantizer("q", 8, True)
        self.fc = Layer("fc", self.q, (6, 4), has_bias=False)
        self.last = last

    def forward(self, x):
        return self.last(self.fc(self.q(x)))


class Convolution(nn.Module):
    """A depthwise convolution with a bias at the end."""

    def __init__(self):
        super().__init__()
        self.q = quantizer("q", 8)
        self.conv = Layer("conv", self.q, (4, 1, 3, 3), padding=1, groups=4)

    def forward(self, x):
        return self.conv(self.q(x))


MODELS = {
    "unsigned": (Patterns(Grid(4, signed=False)), (2, CHANNELS, SIZE, SIZE)),
    "signed": (Patterns(Grid(5, signed=True, per_channel=False)), (2, CHANNELS, SIZE, SIZE)),
    "tokens": (Tokens(nn.Identity()), (2, 3, 4)),
    "scaled": (Tokens(lambda x: x * 0.5), (2, 3, 4)),
    "sigmoid": (Tokens(torch.sigmoid), (2, 3, 4)),
    "quantized": (Tokens(quantizer("last", 4, True)), (2, 3, 4)),
    "convolution": (Convolution(), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("name", MODELS)
def test_both_files_say_the_same(tmp_path, name):
    torch.manual_seed(0)
    model, shape = MODELS[name]
    x = torch.rand(shape)
    calibrate(model, x, is_exact=True)
    outputs = model.outputs if isinstance(model, Patterns) else ("output",)
    path = export_onnx(model, x, tmp_path / "model.onnx", output_names=outputs, policy=BitPolicy({"fc": (4, 8)}))
    plain, other = ExportedModel(path), ExportedIr(export_openvino(path, tmp_path / "model.xml"))
    assert other.policy == plain.policy
    assert (other.input_name, other.output_name) == (plain.input_name, plain.output_name)
    assert set(other.weights) == set(plain.weights)
    for layer, tensor in plain.weights.items():
        np.testing.assert_array_equal(other.weights[layer].codes, tensor.codes)
        np.testing.assert_array_equal(other.weights[layer].step_size, tensor.step_size)
        assert set(other.quantizers_feeding(layer)) == set(plain.quantizers_feeding(layer))
        assert sum(size for *_, size in other.stored(layer)) == tensor.codes.size
    assert set(other.activations) == set(plain.activations)
    for quantizer_name, grid in plain.activations.items():
        assert other.activations[quantizer_name] == grid
    for tensor in (*plain.tap_outputs().values(), *outputs):
        assert set(other.layers_before(tensor)) == set(plain.layers_before(tensor))
    if plain.output_step_size is None:
        assert other.output_step_size is None
    else:
        np.testing.assert_array_equal(other.output_step_size, plain.output_step_size)
    assert (plain.output_step_size is None) == (name in ("scaled", "sigmoid"))


def test_an_openvino_model_is_validated_alone(classifier):
    report = validate(classifier.reference, None, xml_path=classifier.onnx_path.with_suffix(".xml"))
    assert report.faults == ()
    assert set(report.sections["engines"]) == {"openvino"}
    assert report.sections["engines"]["openvino"]["layer_by_layer"]["first_difference"] is None
    assert report.sections["bit_widths"]["weights"]["fc1"]["policy_bits"] == 4


def test_nothing_to_validate_and_float_models_are_refused(classifier, tmp_path):
    with pytest.raises(ArtifactError, match="Nothing to validate"):
        validate(classifier.reference, None)
    x = opset13.parameter([1, 3], np.float32, name="x")
    ov.save_model(ov.Model([opset13.relu(x)], [x]), tmp_path / "float.xml")
    with pytest.raises(ArtifactError, match="float.xml: no integer weights and no quantizers"):
        ExportedIr(tmp_path / "float.xml")
