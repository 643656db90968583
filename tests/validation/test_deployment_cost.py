"""Time, size and load of the files, and what is said where something cannot be measured."""

import sys

import numpy as np
import onnx
import openvino as ov
import pytest
import torch

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Reference
from llt_nncf.artifacts import ValidationReport
from llt_nncf.cli.main import main
from llt_nncf.errors import ValidationFailedError
from llt_nncf.export import export_onnx
from llt_nncf.validation import benchmark_app
from llt_nncf.validation import validate
from llt_nncf.validation.deployment_cost import measure_deployment
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.file_size import file_bytes
from llt_nncf.validation.file_size import theoretical_bytes
from llt_nncf.validation.latency import time_in_turns
from llt_nncf.validation.load_cost import measure_load
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import calibrate
from tests.validation.exported_folder import POLICY
from tests.validation.exported_folder import TABLE
from tests.validation.exported_folder import export_folder

SAMPLE = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_folder(tmp_path_factory.mktemp("exported"))


def test_calls_take_turns_and_the_first_rounds_do_not_count():
    order = []
    times = time_in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=7)
    assert "".join(order) == "ab" * (5 + 7)
    assert {name: len(values) for name, values in times.items()} == {"a": 7, "b": 7}


@pytest.mark.parametrize(
    "runner",
    [
        lambda path: OnnxRuntimeRunner(path, num_streams=3),
        lambda path: OpenVinoRunner(path, input_shape=SAMPLE.shape),
        lambda path: OpenVinoRunner(path, num_threads=None, hint="THROUGHPUT", input_shape=SAMPLE.shape),
    ],
    ids=["onnxruntime", "openvino", "openvino-throughput"],
)
def test_prepared_calls_can_be_repeated_and_the_settings_are_known(folder, runner):
    model = runner(folder / "model.onnx")
    call = model.prepared(SAMPLE, 4)
    call()
    call()
    settings = model.settings()
    assert 1 <= settings["num_streams"] <= settings["num_threads"]
    assert settings["inference_precision"] == "f32"


def test_all_models_are_measured_in_all_ways(folder, tmp_path):
    # Any model will do for NNCF's.
    onnx.save(onnx.load(folder / "float.onnx"), tmp_path / "nncf_ptq.onnx")
    ov.save_model(ov.Core().read_model(folder / "float.onnx"), tmp_path / "nncf_ptq.xml")
    sections, warnings = measure_deployment(
        ExportedModel(folder / "model.onnx"),
        SAMPLE,
        policy=POLICY,
        table=TABLE,
        xml_path=folder / "model.xml",
        float_onnx_path=folder / "float.onnx",
        post_training_paths=[tmp_path / "nncf_ptq.onnx", tmp_path / "nncf_ptq.xml"],
        rounds=5,
    )
    assert warnings == []
    for section, unit in (("latency", "ms"), ("throughput", "per_s")):
        rows = sections[section]["engines"]
        assert set(rows) == {"onnxruntime", "openvino", "openvino_default_precision"}
        for row in rows.values():
            kinds = ("quantized", "float", "post_training")
            assert {key for key in row if key.endswith(f"_{unit}")} == {f"{kind}_{unit}" for kind in kinds}
            for key in ("speed_up", "speed_up_over_post_training"):
                low, high = row[f"{key}_quartiles"]
                assert 0 < low <= row[key] <= high
    assert {row["num_threads"] for row in sections["latency"]["engines"].values()} == {1}
    files = {name: sorted(row) for name, row in sections["files"].items()}
    assert files == {
        "model.onnx": ["bytes", "onnxruntime", "openvino"],
        "model.xml": ["bytes", "openvino"],
        "float.onnx": ["bytes", "onnxruntime", "openvino"],
        "nncf_ptq.onnx": ["bytes", "onnxruntime", "openvino"],
        "nncf_ptq.xml": ["bytes", "openvino"],
    }
    assert sections["target"]["mode"] == "weights and activations"


def test_nothing_is_timed_or_loaded_without_rounds(folder):
    sections, _ = measure_deployment(ExportedModel(folder / "model.onnx"), SAMPLE, policy=POLICY, rounds=0)
    assert set(sections) == {"files", "theoretical_bytes", "target"}
    assert set(sections["files"]["model.onnx"]) == {"bytes"}
    assert "engines" not in sections["target"]["other"]


def test_theoretical_bytes_are_bits_times_weights_with_step_sizes_and_biases(folder):
    weights = 8 * 27 + 8 * 72 + 8 * 72 + 80
    parts = {"weights": weights * 4 // 8, "step_sizes": 4 * (8 + 8 + 8 + 10), "biases": 4 * (8 + 8 + 10)}
    found = theoretical_bytes(ExportedModel(folder / "model.onnx"), POLICY)
    assert found == {**parts, "total": sum(parts.values())}


def test_external_data_and_bin_count_as_part_of_a_file(folder, tmp_path):
    proto = onnx.load(folder / "model.onnx")
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert file_bytes(tmp_path / "m.onnx") == sum((tmp_path / name).stat().st_size for name in ("m.onnx", "m.data"))
    assert file_bytes(folder / "model.xml") == sum((folder / f"model.{s}").stat().st_size for s in ("xml", "bin"))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_memory_at_load_grows_with_the_file(engine, tmp_path):
    peaks = []
    for mib in (1, 64):
        weights = np.random.default_rng(0).normal(size=(mib * 2**18 // 1024, 1024)).astype(np.float32)
        tensor = onnx.numpy_helper.from_array(weights, "w")
        node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
        inputs, outputs = (
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])]
            for name, size in (("x", 1024), ("y", len(weights)))
        )
        graph = onnx.helper.make_graph([node], "g", inputs, outputs, [tensor])
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
        figures = measure_load(engine, tmp_path / "m.onnx")
        assert figures["load_ms"] > 0
        peaks.append(figures["load_peak_mib"])
    if sys.platform == "linux":
        assert peaks[1] - peaks[0] > 32


def test_file_that_cannot_be_loaded_is_named(folder, tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ValidationFailedError, match="onnxruntime cannot load .*text.onnx"):
        measure_load("onnxruntime", tmp_path / "text.onnx")
    (tmp_path / "alone.xml").write_bytes((folder / "model.xml").read_bytes())
    assert file_bytes(tmp_path / "text.onnx") == len("hello")
    for name in ("alone.xml", "missing.onnx"):
        with pytest.raises(ValidationFailedError, match=name):
            file_bytes(tmp_path / name)


def test_benchmark_app_gives_latency_and_throughput_of_the_same_file(folder):
    figures = benchmark_app.run_benchmark_app({"quantized": folder / "model.xml"}, SAMPLE.shape, seconds=1)
    assert set(figures["quantized"]) == {"latency", "throughput"}
    for row in figures["quantized"].values():
        assert min(row["median_ms"], row["per_s"], row["num_streams"], row["num_threads"]) > 0


def test_missing_benchmark_app_is_a_warning(folder, monkeypatch):
    exported = ExportedModel(folder / "model.onnx")
    monkeypatch.setattr(benchmark_app.sys, "executable", "/nowhere/python")
    _, warnings = measure_deployment(exported, SAMPLE, rounds=0, benchmark_app=True)
    (warning,) = warnings
    assert warning.startswith("OpenVINO's own figures are missing: benchmark_app cannot be run")


def test_figures_that_are_missing_from_its_output_are_named(monkeypatch, folder):
    monkeypatch.setattr(benchmark_app, "_output", lambda *_: "Throughput: 3.5 FPS\nMedian: 2 ms\nNUM_STREAMS: 1\n")
    with pytest.raises(ValidationFailedError, match="printed no num_threads, inference_precision"):
        benchmark_app.run_benchmark_app({"quantized": folder / "model.onnx"}, SAMPLE.shape)


class Sigmoid(Classifier):
    """Ends in floats behind a quantized convolution and a float pooling; adds two activations without quantizers."""

    def forward(self, x):
        x = self.in_q(x)
        y = self.stem(x)
        return torch.nn.functional.max_pool2d(y.sigmoid() + y, 2).mean([2, 3])


def test_nodes_in_float_are_counted_and_a_layer_in_float_can_be_made_a_fault(folder, tmp_path):
    model = calibrate(Sigmoid(), torch.randn(4, 3, SIZE, SIZE), is_exact=True)
    path = export_onnx(model, torch.randn(1, 3, SIZE, SIZE), tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(4, 3, SIZE, SIZE)).astype(np.float32)
    reference = Reference(inputs=x, logits=OnnxRuntimeRunner(path).run(x))
    policy = BitPolicy({"stem": (4, 8)})
    report = validate(reference, path, policy=policy, latency_rounds=0)
    assert report.passed
    nodes = report.sections["engines"]["onnxruntime"]["nodes"]
    assert nodes["additions"] == {"integer": 0, "float": 1, "not_found": 0}
    assert nodes["poolings"] == {"integer": 0, "float": 2, "not_found": 0}
    assert nodes["float_nodes"]["Sigmoid"] == 1
    assert report.sections["engines"]["openvino"]["nodes"]["float_nodes"]
    strict = validate(reference, path, policy=policy, latency_rounds=0, require_int8=True)
    assert any("does not run in integers: stem" in fault for fault in strict.faults)
    assert not strict.passed


def test_quantized_neighbours_are_counted_as_integers(folder):
    report = validate(folder / "reference.npz", folder / "model.onnx", xml_path=folder / "model.xml", latency_rounds=0)
    for row in report.sections["engines"].values():
        assert row["nodes"]["additions"] == row["nodes"]["poolings"] == {"integer": 1, "float": 0, "not_found": 0}
        assert row["nodes"]["float_nodes"] == {}


def test_command_passes_its_options_on(folder, tmp_path, capsys):
    report = tmp_path / "report.json"
    options = ["--latency-rounds", "3", "--require-int8", "--report", str(report)]
    assert main(["validate", str(folder), *options]) == 0
    assert "Throughput" in capsys.readouterr().out
    assert ValidationReport.load(report).sections["latency"]["rounds"] == 3
