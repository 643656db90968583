"""The baseline file that NNCF makes of a float model without training."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from llt_nncf.adapter.post_training import export_post_training
from llt_nncf.errors import ExportError
from llt_nncf.export import export_float_onnx
from llt_nncf.pipeline import deploy
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner

SAMPLES = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def float_onnx(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4))
    return export_float_onnx(model, torch.from_numpy(SAMPLES[:1]), tmp_path_factory.mktemp("float") / "float.onnx")


@pytest.mark.parametrize("runner", [OnnxRuntimeRunner, OpenVinoRunner])
def test_file_computes_about_the_same_in_integers_and_nothing_is_printed(float_onnx, tmp_path, capfd, runner):
    path = tmp_path / ("nncf_ptq.xml" if runner is OpenVinoRunner else "nncf_ptq.onnx")
    assert export_post_training(float_onnx, SAMPLES, path) == path
    assert capfd.readouterr().out == ""
    quantized, exact = runner(path), runner(float_onnx).run(SAMPLES)
    assert np.abs(quantized.run(SAMPLES) - exact).max() < 0.1 * np.abs(exact).max()
    assert any(node.is_integer and "Conv" in node.kind for node in quantized.nodes())


def test_nothing_is_left_behind_by_what_cannot_be_quantized(float_onnx, tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ExportError, match=r"text\.onnx: OpenVINO cannot read it"):
        export_post_training(tmp_path / "text.onnx", SAMPLES, tmp_path / "out" / "nncf_ptq.xml")
    with pytest.raises(ExportError, match=r"text\.onnx: cannot be read as ONNX"):
        export_post_training(tmp_path / "text.onnx", SAMPLES, tmp_path / "out" / "nncf_ptq.onnx")
    with pytest.raises(ExportError, match="at least one sample"):
        export_post_training(float_onnx, SAMPLES[:0], tmp_path / "out" / "nncf_ptq.xml")
    with pytest.raises(ExportError, match=r"ends in \.onnx, or in \.xml"):
        export_post_training(float_onnx, SAMPLES, tmp_path / "out" / "nncf_ptq.bin")
    with pytest.raises(ExportError, match=r"float\.onnx: NNCF cannot quantize"):
        export_post_training(float_onnx, SAMPLES[:, :2], tmp_path / "out" / "nncf_ptq.xml")
    assert not (tmp_path / "out").exists()


def test_deployment_leaves_it_beside_the_files_and_times_it(compress, residual, loader, tmp_path):
    float_model = copy.deepcopy(residual)
    ctrl, _ = compress(residual, importance={"indicator": "statistics"})
    images = loader.dataset.tensors[0]
    report = deploy(
        ctrl, float_model, images, None, tmp_path / "out", post_training=True, latency_rounds=2, min_agreement=0
    )
    assert report.passed
    assert {"nncf_ptq.onnx", "nncf_ptq.xml", "nncf_ptq.bin"} <= {file.name for file in (tmp_path / "out").iterdir()}
    for figures in report.sections["latency"]["engines"].values():
        assert figures["post_training_ms"] > 0
