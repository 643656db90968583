"""Every kind of layer at every grid, in both engines and in integer steps."""

import itertools

import numpy as np
import onnxruntime
import openvino as ov
import pytest
import torch

from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.functional import integer_range
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from tests.export.frozen_models import CHANNELS
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Layer
from tests.export.frozen_models import calibrate
from tests.export.layer_kinds import FLOAT_KINDS
from tests.export.layer_kinds import KINDS
from tests.export.layer_kinds import Grid
from tests.export.layer_kinds import Patterns

ENGINES = (OnnxRuntimeRunner, OpenVinoRunner)
GRIDS = [Grid(*case) for case in itertools.product(range(2, 9), (False, True), (False, True))]


def grid_id(grid) -> str:
    return f"{grid.num_bits}bit-{'signed' if grid.signed else 'unsigned'}-{'channel' if grid.per_channel else 'tensor'}"


def runs_in_float(layer, engine, grid) -> bool:
    """What an engine has no integer kernel for; docs/models.md has the reasons."""
    if layer == "transposed":
        return engine is OnnxRuntimeRunner or grid.signed
    return engine is OnnxRuntimeRunner and layer in ("hardswish", "silu", "gelu", "hardsigmoid")


def make_patterns(grid, folder, kinds=KINDS):
    torch.manual_seed(0)
    x = torch.randn(3, CHANNELS, SIZE, SIZE)
    model = calibrate(Patterns(grid, kinds), x, is_exact=grid.is_exact)
    path = export_onnx(model, x[:1], folder / "model.onnx", output_names=model.outputs)
    with torch.no_grad():
        return model, path, x.numpy(), [output.numpy() for output in model(x)]


def assert_kernels(model, runner, engine, grid):
    layers = [module.frozen_weight.name for module in model.modules() if isinstance(module, Layer)]
    kernels = runner.kernels(layers)
    in_float = {name: kernels.get(name) for name in layers if not kernels.get(name, ("", False))[1]}
    assert set(in_float) == {name for name in layers if runs_in_float(name, engine, grid)}, in_float


def without_optimizations(path, engine, x, names):
    """Runs a model node by node, as far as the engine lets itself be told to."""
    if engine is OnnxRuntimeRunner:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return session.run(names, {session.get_inputs()[0].name: x})
    # What OpenVINO 2026.4.1 has: no integer kernels, no code generated for chains of small operators, and no rounding
    # of linear layers' inputs to 8 bits at run time, which it does where the weights are integers and the input is not.
    options = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": False, "SNIPPETS_MODE": "DISABLE"}
    options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
    model = ov.Core().read_model(export_openvino(path, path.with_suffix(".xml")))
    results = ov.Core().compile_model(model, "CPU", options)([x])
    return [results[name] for name in names]


@pytest.fixture(scope="module", params=GRIDS, ids=grid_id)
def exact(request, tmp_path_factory):
    return request.param, *make_patterns(request.param, tmp_path_factory.mktemp("exact"))


@pytest.mark.parametrize("engine", ENGINES)
def test_power_of_two_steps_are_exact_and_every_layer_runs_in_integers(exact, engine):
    grid, model, path, x, wanted = exact
    runner = engine(path)
    for found in (runner.run_outputs(x, model.outputs), without_optimizations(path, engine, x, model.outputs)):
        differences = {
            name: float(np.abs(a - b).max()) for name, a, b in zip(model.outputs, found, wanted, strict=True)
        }
        assert differences == dict.fromkeys(model.outputs, 0.0)
    assert_kernels(model, runner, engine, grid)


def test_codes_and_bounds_fit_the_bit_width(exact):
    _, model, path, _, wanted = exact
    # Not exact for want of anything to compute. At a few bits one grid for two calls, and a gate, lose everything.
    constant = {name for name, output in zip(model.outputs, wanted, strict=True) if len(np.unique(output)) == 1}
    assert constant <= {"reused", "squeeze_excite"}
    exported = ExportedModel(path)
    assert {name: exported.quantizers_feeding(name) for name in ("moved", "concat", "permuted")} == {
        "moved": ("model/in|0",),
        "concat": ("concat/left|0", "concat/left|0#1"),
        "permuted": ("permuted/in|0",),
    }
    for module in model.modules():
        if isinstance(module, FrozenWeight):
            np.testing.assert_array_equal(exported.weights[module.name].codes, module.codes.numpy())
            np.testing.assert_array_equal(exported.weights[module.name].step_size.ravel(), module.step_size.flatten())
        if isinstance(module, FrozenActivationQuantizer):
            grid = exported.activations[module.name]
            if not grid.is_narrowed:
                bounds = (grid.low - grid.zero_point, grid.high - grid.zero_point)
                assert bounds == integer_range(module.num_bits, signed=module.signed)


@pytest.mark.parametrize("grid", [Grid(2, False), Grid(5, True), Grid(8, False, False), Grid(8, True)], ids=grid_id)
@pytest.mark.parametrize("engine", ENGINES)
def test_functions_that_engines_approximate_are_within_one_step_and_at_ties_only(grid, engine, tmp_path):
    model, path, x, wanted = make_patterns(grid, tmp_path, FLOAT_KINDS)
    runner = engine(path)
    for kind, found, output in zip(model.outputs, runner.run_outputs(x, model.outputs), wanted, strict=True):
        step_size = float(model.kinds[kind].q.step_size)
        steps = np.abs(found - output) / step_size
        assert steps.max() <= 1, kind
        assert (steps > 0).mean() < 0.01, kind
    assert_kernels(model, runner, engine, grid)


@pytest.mark.parametrize(
    "grid", [Grid(8, False, is_exact=False), Grid(5, True, False, False), Grid(3, False, is_exact=False)], ids=grid_id
)
@pytest.mark.parametrize("engine", ENGINES)
def test_ordinary_steps_are_within_one_step_of_the_output_grid(grid, engine, tmp_path):
    # Of one layer each: a tie in front of a second one would be as many steps as its weight.
    names = (
        "plain",
        "depthwise",
        "grouped",
        "strided",
        "dilated",
        "no_bias",
        "transposed",
        "conv1d",
        "conv3d",
        "linear",
    )
    names += ("linear_3d", "relu6", "add", "max_pool", "moved")
    model, path, x, wanted = make_patterns(grid, tmp_path, {name: KINDS[name] for name in names})
    found = engine(path).run_outputs(x, model.outputs)
    for name, output, expected in zip(names, found, wanted, strict=True):
        kind = model.kinds[name]
        if name == "linear":  # Floats, on the grid of its accumulator.
            limit = (model.in_q.step_size * kind.layer.frozen_weight.step_size.flatten()).numpy()
        else:
            limit = float(kind.q.step_size)
        assert np.all(np.abs(output - expected) <= limit * (1 + 1e-5)), name
