"""Exported models against the frozen PyTorch module, in both engines and in integer steps."""

import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import graph_digest
from llt_nncf.errors import ExportError
from llt_nncf.export import export_float_onnx
from llt_nncf.export import export_onnx
from llt_nncf.export.onnx_qcdq import lower_to_qcdq
from llt_nncf.quantizers import FrozenWeight
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import Layer
from tests.export.frozen_models import calibrate
from tests.export.frozen_models import quantizer

ENGINES = (OnnxRuntimeRunner, OpenVinoRunner)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(1)
    return calibrate(Classifier(), torch.randn(16, 3, SIZE, SIZE), is_exact=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_classifier_is_exact_at_any_batch_size(classifier, engine, tmp_path):
    path = export_onnx(classifier, torch.randn(2, 3, SIZE, SIZE), tmp_path / "model.onnx")
    runner = engine(path)
    for batch in (1, 5):
        x = torch.randn(batch, 3, SIZE, SIZE) * 2
        with torch.no_grad():
            np.testing.assert_array_equal(runner.run(x.numpy()), classifier(x).numpy())
    assert all(is_integer for _, is_integer in runner.kernels(Classifier.policy_bits).values())
    assert set(runner.kernels(Classifier.policy_bits)) == set(Classifier.policy_bits)


def test_only_standard_operators_are_left_and_constants_are_shared(classifier, tmp_path):
    proto = onnx.load(export_onnx(classifier, torch.randn(1, 3, SIZE, SIZE), tmp_path / "model.onnx"))
    operators = {node.op_type for node in proto.graph.node}
    assert {node.domain for node in proto.graph.node} == {""}
    assert [opset.domain for opset in proto.opset_import] == [""]
    assert not operators & {"Relu", "BatchNormalization", "Pad", "Identity", "MatMul", "Shape"}
    arrays = [numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if "codes" not in tensor.name]
    keys = [(str(array.dtype), array.shape, array.tobytes()) for array in arrays]
    assert len(set(keys)) == len(keys)


def test_relu6_becomes_an_upper_bound_on_the_codes(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = quantizer("q", 8, step_size=0.1)

        def forward(self, x):
            return self.q(F.relu6(x))

    path = export_onnx(Model().eval(), torch.randn(1, 4), tmp_path / "model.onnx")
    grid = ExportedModel(path).activations["q"]
    assert (grid.low, grid.high, grid.is_narrowed) == (0, 60, True)  # round(6 / 0.1)
    x = torch.linspace(-1, 8, 4000).view(1000, 4)
    for engine in ENGINES:
        np.testing.assert_allclose(engine(path).run(x.numpy()), Model()(x).numpy(), atol=1e-6)


def test_linear_of_three_dimensions_and_transposed_convolution_are_exact(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = quantizer("q", 8, True)
            self.linear = Layer("linear", self.q, (5, 36))
            self.weight = FrozenWeight(
                torch.randint(-8, 8, (4, 3, 2, 2)), 2.0 ** torch.randint(-5, 0, (1, 3, 1, 1)), num_bits=4, name="up"
            )
            grid = 0.125 * self.weight.step_size.flatten().repeat(2)
            self.bias = nn.Parameter(torch.randint(-9, 9, (6,)) * grid)

        def forward(self, x):
            x = self.q(x)
            up = F.conv_transpose2d(x, self.weight(), self.bias, stride=2, groups=2)
            return self.linear(x.flatten(2)), up

    model = Model().eval()
    model.linear.put_bias_on_grid()
    path = export_onnx(model, torch.randn(1, 4, 6, 6), tmp_path / "m.onnx", output_names=["linear", "up"])
    exported = ExportedModel(path)
    np.testing.assert_array_equal(exported.weights["linear"].codes, model.linear.frozen_weight.codes)
    assert "up/bias_codes" in {tensor.name for tensor in exported.proto.graph.initializer}
    x = torch.randn(2, 4, 6, 6)
    for engine in ENGINES:
        for found, wanted in zip(engine(path).run_outputs(x.numpy(), ["linear", "up"]), model(x), strict=True):
            np.testing.assert_array_equal(found, wanted.detach().numpy())


def test_a_layer_that_is_called_twice_shares_its_weights(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = quantizer("q", 8, True)
            self.conv = Layer("conv", self.q, (4, 4, 3, 3), padding=1)

        def forward(self, x):
            return self.conv(self.q(F.relu(self.conv(self.q(x)))))

    model = calibrate(Model(), torch.randn(1, 4, 6, 6), is_exact=True)
    model.conv.put_bias_on_grid()
    exported = ExportedModel(export_onnx(model, torch.randn(1, 4, 6, 6), tmp_path / "m.onnx"))
    assert list(exported.activations) == ["q", "q#1"]
    assert list(exported.weights) == ["conv"]
    assert exported.quantizers_feeding("conv") == ("q", "q#1")
    x = torch.randn(2, 4, 6, 6)
    for engine in ENGINES:
        np.testing.assert_array_equal(engine(exported.path).run(x.numpy()), model(x).detach().numpy())


def test_ops_that_move_elements_leave_layers_in_integers(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = quantizer("q", 4, True)
            self.left = Layer("left", self.q, (4, 4, 3, 3))
            self.right = Layer("right", self.q, (4, 2, 1, 1))
            self.left_q, self.right_q = quantizer("left_q", 4, True), quantizer("right_q", 4, True)

        def forward(self, x):
            x = self.q(x)
            x = x.view(x.size(0), 2, 4, 6, 6).transpose(1, 2).reshape(x.size(0), 8, 6, 6)  # Shuffles channels.
            left, right, _ = torch.split(x, [4, 2, 2], dim=1)
            return self.left_q(self.left(F.max_pool2d(left, 2, 1))), self.right_q(self.right(right[:, :, 1:]))

    model = calibrate(Model(), torch.randn(2, 8, 6, 6), is_exact=True)
    path = export_onnx(model, torch.randn(1, 8, 6, 6), tmp_path / "m.onnx", output_names=["left", "right"])
    x = torch.randn(3, 8, 6, 6)
    for engine in ENGINES:
        runner = engine(path)
        for found, wanted in zip(runner.run_outputs(x.numpy(), ["left", "right"]), model(x), strict=True):
            np.testing.assert_array_equal(found, wanted.detach().numpy())
        assert {name: is_integer for name, (_, is_integer) in runner.kernels(["left", "right"]).items()} == {
            "left": True,
            "right": True,
        }
    assert ExportedModel(path).quantizers_feeding("right") == ("q",)


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_that_nobody_quantized_stay_floats_between_quantizers(engine, tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.conv_q, self.linear_q = (quantizer(name, 8, True) for name in ("q", "conv_q", "linear_q"))
            self.conv, self.linear = nn.Conv2d(4, 4, 3), nn.Linear(6, 5)

        def forward(self, x):
            x = self.q(x)
            return self.conv_q(self.conv(x)), self.linear_q(self.linear(x.flatten(2).reshape(-1, 6)))

    model = calibrate(Model(), torch.randn(8, 4, 6, 6), is_exact=True)
    path = export_onnx(model, torch.randn(1, 4, 6, 6), tmp_path / "m.onnx", output_names=["conv", "linear"])
    x = torch.randn(8, 4, 6, 6)
    for found, wanted in zip(engine(path).run_outputs(x.numpy(), ["conv", "linear"]), model(x), strict=True):
        # Rounded to 8 bits they would change about one code in five.
        assert (found != wanted.detach().numpy()).mean() < 0.001


def test_metadata_holds_the_policy(classifier, tmp_path):
    policy = BitPolicy(dict.fromkeys(Classifier.policy_bits, (4, 4)), {"budget": "weight_mib=1"})
    path = export_onnx(classifier, torch.randn(1, 3, SIZE, SIZE), tmp_path / "m.onnx", policy=policy)
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert BitPolicy.from_dict(json.loads(metadata["llt_nncf.policy"])) == policy
    assert ExportedModel(path).policy == policy
    assert json.loads(metadata["llt_nncf.versions"])["torch"] == torch.__version__.split("+")[0]
    assert metadata["llt_nncf.digest"] == graph_digest(onnx.load(path).graph)


def test_names_of_inputs_and_outputs_are_kept(classifier, tmp_path):
    x = torch.randn(1, 3, SIZE, SIZE)
    graph = onnx.load(
        export_onnx(classifier, x, tmp_path / "m.onnx", input_names=["image"], output_names=["scores"])
    ).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["image", "scores"]
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def fails(model, folder, text):
    with pytest.raises(ExportError, match=text):
        export_onnx(model.eval(), torch.randn(1, 4, 6, 6), folder / "m.onnx")
    assert list(folder.iterdir()) == []


class Quantized(nn.Module):
    def __init__(self, step_size=0.125):
        super().__init__()
        self.q = quantizer("first", 8, True)
        self.q.step_size = torch.as_tensor(step_size)
        self.conv = Layer("conv", self.q, (4, 4, 3, 3))

    def forward(self, x):
        return self.conv(self.q(x))


def test_bias_off_its_grid_is_refused(tmp_path):
    model = Quantized()
    model.conv.put_bias_on_grid()
    model.conv.bias.data[2] += 0.4 * 0.125 * model.conv.frozen_weight.step_size[2].item()
    fails(model, tmp_path, r"'conv' \(Conv\): the bias of channel 2 is .*\.[46]")


def test_activation_step_per_channel_is_refused(tmp_path):
    fails(Quantized([[[0.1]], [[0.2]], [[0.3]], [[0.4]]]), tmp_path, "'first' .*one constant positive step size")


@pytest.mark.parametrize("step_size", [0.0, -0.1, float("nan"), float("inf")])
def test_step_that_is_not_positive_is_refused(step_size, tmp_path):
    fails(Quantized(step_size), tmp_path, "'first' .*one constant positive step size")


@pytest.mark.parametrize("step_size", [0.0, -0.1, float("nan"), float("inf")])
def test_weight_step_that_is_not_positive_is_refused(step_size, tmp_path):
    model = Quantized()
    model.conv.frozen_weight.step_size[1] = step_size
    fails(model, tmp_path, "'conv' .*positive step sizes")


def test_bias_that_is_no_number_is_refused(tmp_path):
    model = Quantized()
    model.conv.bias.data[1] = float("nan")
    fails(model, tmp_path, "'conv' .*bias of channel 1 is nan")


def test_step_that_the_model_computes_is_refused(tmp_path):
    class Model(Quantized):
        def forward(self, x):
            self.q.step_size = x.abs().max() / 127
            return self.conv(self.q(x))

    fails(Model(), tmp_path, "'first' .*computed in the graph")


def test_layer_whose_sums_may_exceed_int32_is_refused(tmp_path):
    class Model(nn.Module):
        def __init__(self, inputs):
            super().__init__()
            self.q = quantizer("q", 8)
            self.weight = FrozenWeight(torch.full((1, inputs), 127), torch.ones(1), num_bits=8, name="wide")

        def forward(self, x):
            return F.linear(self.q(F.pad(x.flatten(1), (0, self.weight.codes.shape[1] - 144))), self.weight())

    fits = (2**31 - 1) // (255 * 127)
    fails(Model(fits + 1), tmp_path, r"'wide' \(Gemm\): its sums may come to 2.15e\+09 steps")
    export_onnx(Model(fits).eval(), torch.randn(1, 4, 6, 6), tmp_path / "m.onnx")


@pytest.mark.parametrize("engine", ENGINES)
def test_bounds_that_the_model_computes_stay_a_clip_in_front_of_the_quantizer(engine, tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = quantizer("q", 4, True)

        def forward(self, x):
            return self.q(torch.clamp(x, max=x.mean()))

    x = torch.randint(-64, 64, (4, 8, 2)) / 64
    path = export_onnx(Model().eval(), x[:1], tmp_path / "m.onnx")
    np.testing.assert_array_equal(engine(path).run(x.numpy()), Model()(x).numpy())


def test_quantizer_in_a_branch_is_refused_by_name():
    helper = onnx.helper
    inner = helper.make_node("FakeQuantize", ["x", "step"], ["y"], domain="llt", name="inner", num_bits=8, signed=1)
    branch = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info("y", 1, None)])
    node = helper.make_node("If", ["condition"], ["z"], then_branch=branch, else_branch=branch)
    inputs = [helper.make_tensor_value_info("x", 1, [1]), helper.make_tensor_value_info("condition", 9, [])]
    step = numpy_helper.from_array(np.float32(0.1), "step")
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("z", 1, None)], [step])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("llt", 1)]
    with pytest.raises(ExportError, match=r"'inner' \(llt::FakeQuantize\).*branches"):
        lower_to_qcdq(ir.from_proto(helper.make_model(graph, opset_imports=imports)))


def test_layers_of_one_name_are_refused(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Quantized(), Quantized()

        def forward(self, x):
            return self.second(self.first(x))

    fails(Model(), tmp_path, "'conv/codes'")


def test_unknown_llt_node_is_refused_by_name(tmp_path):
    class Unknown(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def symbolic(g, x):
            return g.op("llt::Unknown", x, name_s="strange").setType(x.type())

    class Model(Quantized):
        def forward(self, x):
            return Unknown.apply(super().forward(x))

    model = Model()
    model.conv.put_bias_on_grid()
    fails(model, tmp_path, r"'strange' \(llt::Unknown\)")


def test_operator_that_pytorch_cannot_export_is_refused(tmp_path):
    class Model(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    fails(Model(), tmp_path, "bessel_j0")


def test_quantizer_and_layer_of_one_name_are_refused(tmp_path):
    model = Quantized()
    model.q.name = "conv"
    model.conv.put_bias_on_grid()
    fails(model, tmp_path, "'conv/codes'")


def test_failed_export_leaves_an_earlier_file_alone(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"earlier")
    with pytest.raises(ExportError):
        export_onnx(Quantized(0.0).eval(), torch.randn(1, 4, 6, 6), path)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_float_model_is_exported_as_it_is(tmp_path):
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()).eval()
    path = export_float_onnx(model, torch.randn(1, 4, 6, 6), tmp_path / "m.onnx")
    x = torch.randn(3, 4, 6, 6)
    for engine in ENGINES:
        np.testing.assert_allclose(engine(path).run(x.numpy()), model(x).detach().numpy(), atol=1e-5)
