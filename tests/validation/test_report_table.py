"""The tables keep every figure at narrow and wide terminals."""

import io

import pytest
from rich.console import Console

from llt_nncf.artifacts import ValidationReport
from llt_nncf.validation import print_report

LAYER = "ResNet/Sequential[layer1]/BasicBlock[0]/NNCFConv2d[conv1]/conv2d_0"


def report(passed=False):
    nodes = {"integer": 7, "float": 1, "not_found": 0}
    engine = {
        "agreement": 0.9912,
        "accuracy": 0.7345,
        "max_abs_difference": 0.123456,
        "max_difference_steps": 3.0,
        "nodes": {"additions": nodes, "poolings": nodes, "float_nodes": {"Softmax": 2}},
        "kernels": {LAYER: {"kernel": "QLinearConv", "is_integer": True}},
        "codes": {
            "first_difference": LAYER,
            "quantizers": {LAYER: {"share_different": 0.0213, "max_difference_steps": 1}},
        },
    }
    latency = {
        "quantized_ms": 4.301,
        "float_ms": 9.46,
        "speed_up": 2.199,
        "speed_up_quartiles": [2.151, 2.249],
        "post_training_ms": 4.363,
        "speed_up_over_post_training": 1.014,
        "speed_up_over_post_training_quartiles": [1.003, 1.027],
    }
    throughput = {"quantized_per_s": 231.4, "float_per_s": 105.7, "num_streams": 4, "num_threads": 8}
    hint = {"median_ms": 4.297, "per_s": 12345.6, "num_streams": 3, "num_threads": 6, "inference_precision": "bfloat16"}
    load = {"load_ms": 83.4, "load_peak_mib": 34.25}
    speed_up = {"speed_up": 1.052, "speed_up_quartiles": [1.041, 1.063]}
    sections = {
        "engines": {"onnxruntime": engine, "openvino": engine},
        "pytorch": {"accuracy": 0.7351, "float_accuracy": None},
        "bit_widths": {
            "weights": {LAYER: {"policy_bits": 4, "needed_bits": 3, "weight_count": 9}},
            "activations": {LAYER: {"policy_bits": 5, "signed": True, "low": -16, "high": 15}},
        },
        "latency": {"engines": {"onnxruntime": latency, "openvino_default_precision": {"quantized_ms": 1.523}}},
        "throughput": {"engines": {"onnxruntime": throughput}},
        "benchmark_app": {"post_training": {"latency": hint, "throughput": hint}},
        "files": {"model.onnx": {"bytes": 2048, "onnxruntime": load, "openvino": {"load_ms": 91.7}}},
        "theoretical_bytes": {"weights": 1229, "step_sizes": 200, "biases": 200, "total": 1629},
        "target": {
            "mode": "weights and activations",
            "other": {"activation_bits": 8, "gbitops": 2.5, "engines": {"openvino": speed_up}},
            "gbitops": 1.25,
            "layers_that_may_saturate": [LAYER],
            "has_vnni": True,
        },
        "warnings": ["a [warning]"],
    }
    return ValidationReport(passed, () if passed else ("a fault [in brackets]",), sections)


def printed(report, width):
    console = Console(file=io.StringIO(), width=width)
    print_report(report, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 160])
def test_every_figure_is_there(width):
    text = printed(report(), width)
    running = " ".join(text.split())
    for figure in (
        "99.12%",
        "73.45%",
        "73.51%",
        "0.1235",
        "1 of 1",
        "4.301",
        "2.20x",
        "1.523",
        "2.15-2.25",
        "4.363",
        "1.01x",
        "231.4",
        "streams 4, threads 8",
        "12346",
        "4.297",
        "bfloat16",
        "83.4",
        "34.25",
        "91.7",
        "2.0 ",
        "7 of 8",
        "2 Softmax",
        "1.2 KiB",
        "1.26 times",
        "1.05x (1.04-1.06) as fast",
        "2.5 instead of 1.25 GBitOPs",
        "saturate",
        "2.13%",
        "-16..15",
        "int8",
    ):
        assert figure in text or figure in running, figure
    assert "a fault [in brackets]" in text
    assert "a [warning]" in text
    assert "Validation failed." in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_empty_report_prints_its_verdict():
    assert printed(ValidationReport(True, (), {}), 80).strip() == "Validation passed."


@pytest.mark.parametrize("width", [80, 160])
def test_codes_layer_by_layer_and_figures_on_own_data_are_counted(width):
    counts = {"elements": 123456789, "exact": 123456700, "ties": 456, "ties_other_way": 77}
    sections = {
        "engines": {"onnxruntime": {"layer_by_layer": counts}, "openvino": {}},
        "data": {
            "samples": 5000,
            "agreement": 0.987,
            "engines": {
                "onnxruntime": {"accuracy": 0.7654, "loss": 1.25},
                "openvino": {"accuracy": 0.7653, "loss": 1.5},
            },
        },
    }
    text = printed(ValidationReport(False, (), sections), width)
    (row,) = (line for line in text.splitlines() if "123456789" in line)
    # The last is what is neither equal nor a tie that fell to the other side.
    assert row.replace("│", " ").split() == ["onnxruntime", "123456789", "123456700", "456", "77", "12"]
    for figure in ("Own data, 5000 samples", "76.54%", "76.53%", "1.25", "98.70%"):
        assert figure in text, figure
    assert max(map(len, text.splitlines())) <= width
