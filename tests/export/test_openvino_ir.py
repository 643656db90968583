"""OpenVINO's format holds the same integers and the policy."""

import json

import numpy as np
import openvino as ov
import pytest
import torch

from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ExportError
from llt_nncf.export import export_onnx
from llt_nncf.export.openvino_ir import export_openvino
from llt_nncf.validation.runners import OpenVinoRunner
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import calibrate


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
