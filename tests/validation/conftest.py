"""A small exported model that several tests look at."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Reference
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import record_reference
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import calibrate


class ExportedFiles(NamedTuple):
    """``model.onnx``, with ``model.xml`` and ``.bin`` beside it, and what PyTorch computed."""

    onnx_path: Path
    reference: Reference


@pytest.fixture(scope="package")
def classifier(tmp_path_factory) -> ExportedFiles:
    """Steps are powers of two: every engine is exact."""
    torch.manual_seed(0)
    model = calibrate(Classifier(), torch.randn(16, 3, SIZE, SIZE), is_exact=True)
    folder = tmp_path_factory.mktemp("classifier")
    x = torch.randn(16, 3, SIZE, SIZE)
    policy = BitPolicy(dict.fromkeys(Classifier.policy_bits, (4, 4)) | {"stem": (4, 8)})
    path = export_onnx(model, x[:1], folder / "model.onnx", policy=policy)
    export_openvino(path, folder / "model.xml")
    return ExportedFiles(path, record_reference(model, x, model(x).argmax(1)))
