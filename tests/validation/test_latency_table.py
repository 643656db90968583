"""Single layers, timed in the form in which the engine executes them."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper

from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cli.main import main
from llt_nncf.errors import ValidationFailedError
from llt_nncf.errors import ValidationOptionError
from llt_nncf.export import export_onnx
from llt_nncf.validation import measure_layers
from llt_nncf.validation.runners import OpenVinoRunner
from llt_nncf.validation.single_layer import FORMS
from llt_nncf.validation.single_layer import SECOND_READER
from llt_nncf.validation.single_layer import cut_out_layers
from llt_nncf.validation.single_layer import single_layer_model
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import calibrate

BITS = (8, 4, 3)
TABLE = LayerTable(
    (
        Layer("stem", 1, 1, "input", (8,), (8,)),
        Layer("block.1.conv", 1, 1, "a", BITS, BITS),
        Layer("block.1.down", 1, 1, "a", BITS, BITS),
        Layer("fc", 1, 1, "b", BITS, (4, 3)),
    )
)


@pytest.fixture
def model(tmp_path) -> Path:
    """Nodes named as PyTorch's exporter does it, an open batch dimension, a strided 1x1 convolution."""
    shapes = {"w0": (16, 3, 3, 3), "w1": (32, 16, 3, 3), "w2": (32, 16, 1, 1), "w3": (10, 32)}
    weights = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()]
    strided = {"strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["h0"], "/stem/Conv", pads=[1] * 4),
        helper.make_node("Conv", ["h0", "w1"], ["h1"], "/block/block.1/conv/Conv", pads=[1] * 4, **strided),
        helper.make_node("Conv", ["h0", "w2"], ["h2"], "/block/block.1/down/Conv", **strided),
        helper.make_node("Add", ["h1", "h2"], ["h3"]),
        helper.make_node("GlobalAveragePool", ["h3"], ["h4"]),
        helper.make_node("Flatten", ["h4"], ["h5"]),
        helper.make_node("Gemm", ["h5", "w3"], ["y"], "/fc/Gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_layers_are_found_by_the_names_of_their_modules_with_the_shapes_of_one_sample(model):
    layers = cut_out_layers(model, set(TABLE.by_name))
    assert {name: (x.input_shape, x.weight_shape, x.output_shape) for name, x in layers.items()} == {
        "stem": ((1, 3, 16, 16), (16, 3, 3, 3), (1, 16, 16, 16)),
        "block.1.conv": ((1, 16, 16, 16), (32, 16, 3, 3), (1, 32, 8, 8)),
        "block.1.down": ((1, 16, 16, 16), (32, 16, 1, 1), (1, 32, 8, 8)),
        "fc": ((1, 32), (10, 32), (1, 10)),
    }


@pytest.mark.parametrize("form", FORMS)
def test_a_single_layer_runs_in_the_form_that_it_is_named_after(form, model):
    for layer in cut_out_layers(model, set(TABLE.by_name)).values():
        runner = OpenVinoRunner(single_layer_model(layer, form), is_profiled=True)
        runner.run(np.zeros(layer.input_shape, np.float32 if form == "float" else np.uint8))
        (kernel,) = (
            kernel
            for name, kind, kernel, ms in runner.executed_nodes()
            if kind in ("Convolution", "FullyConnected") and name != SECOND_READER
        )
        assert kernel.endswith("f32" if form == "float" else "I8")


def test_pairs_that_run_the_same_kernel_cost_the_same_and_the_table_says_so(model):
    table = measure_layers(TABLE, model, rounds=3)
    for layer in TABLE.layers:
        costs, details = table.costs[layer.name], table.details["layers"][layer.name]
        assert set(costs) == {(w, a) for w in layer.weight_bits for a in layer.activation_bits}
        listed = [pair for row in details["executed"] for pair in row["pairs"]]
        assert sorted(listed) == sorted(f"w{w}a{a}" for w, a in costs)
        for row in details["executed"]:
            assert {costs[int(pair[1]), int(pair[3])] for pair in row["pairs"]} == {row["ms"]}
            # Narrower inputs are clipped, the bits of the weights make no difference.
            assert {pair.endswith("a8") for pair in row["pairs"]} == {"Subgraph" not in row["kernel"]}
            assert row["kernel"].endswith(("I8", "u8"))
        assert details["float"]["kernel"].split()[-1].endswith("f32")
    assert "OpenVINO" in table.details["engine"]
    assert table.details["cpu"] in table.source


def test_the_command_writes_a_table_that_the_search_takes(model, tmp_path, capsys):
    values = {bits: 1 / bits for bits in BITS}
    activations = {"a": values, "b": {bits: values[bits] for bits in (4, 3)}}
    weights = dict.fromkeys(("block.1.conv", "block.1.down", "fc"), values)
    indicators = IndicatorTable(TABLE, weights, activations).save(tmp_path / "indicators.json")
    latency = tmp_path / "latency.json"
    assert main(["latency-table", str(indicators), str(model), "--rounds", "2", "-o", str(latency)]) == 0
    assert "w3,4,8 a3,4" in capsys.readouterr().out
    table = CostTable.load(latency)
    most = sum(max(row.values()) for row in table.costs.values()) + 0.001
    policy = str(tmp_path / "policy.json")
    options = ["--latency-ms", str(most), "--latency-table", str(latency), "-o", policy, "--json"]
    assert main(["search", str(indicators), *options]) == 0
    printed = json.loads(capsys.readouterr().out)
    bits = {name: tuple(pair.values()) for name, pair in printed["policies"][0]["bits"].items()}
    assert printed["limits"][0]["used"] == pytest.approx(sum(table.costs[name][pair] for name, pair in bits.items()))


def test_layers_of_a_model_that_this_package_exported_are_found_by_their_names(tmp_path):
    frozen = calibrate(Classifier(), torch.randn(16, 3, SIZE, SIZE), is_exact=True)
    path = export_onnx(frozen, torch.randn(1, 3, SIZE, SIZE), tmp_path / "model.onnx")
    layers = cut_out_layers(path, set(Classifier.policy_bits))
    assert set(layers) == set(Classifier.policy_bits)
    assert (layers["stem"].node.op_type, layers["fc1"].node.op_type) == ("Conv", "Gemm")
    assert layers["stem"].output_shape[2:] == (SIZE, SIZE)


def test_a_model_without_the_layers_and_a_file_that_is_none_are_refused(model, tmp_path):
    other = LayerTable((Layer("other", 1, 1, "x", BITS, BITS),))
    with pytest.raises(ValidationFailedError, match="net.onnx has no layers other"):
        measure_layers(other, model)
    with pytest.raises(ValidationOptionError, match="rounds=0"):
        measure_layers(TABLE, model, rounds=0)
    (tmp_path / "text.onnx").write_text("hello")
    for name in ("text.onnx", "none.onnx"):
        with pytest.raises(ValidationFailedError, match=name):
            measure_layers(TABLE, tmp_path / name)
