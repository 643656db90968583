"""The files of an export of a small classifier, as a deployment leaves them in a folder."""

from pathlib import Path

import torch
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.export import export_float_onnx
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import record_reference
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Classifier
from tests.export.frozen_models import calibrate

POLICY = BitPolicy({"stem": (4, 8), "block.conv": (4, 4), "fc1": (4, 4), "fc2": (4, 4)})
# MACs by hand: 6x6 outputs of 8 channels from 3x3x3, 3x3 outputs of 8 channels from 8x3x3, 8 x 72, 10 x 8.
TABLE = LayerTable(
    (
        Layer("stem", 36 * 8 * 27, 8 * 27, "input|0", (4,), (8,)),
        Layer("block.conv", 9 * 8 * 72, 8 * 72, "stem|0", (4, 2), (4, 2)),
        Layer("fc1", 8 * 72, 8 * 72, "sum|0", (4, 2), (4, 2)),
        Layer("fc2", 80, 80, "fc1|0", (4,), (4,)),
    ),
    {"block|0": 8},
)


def export_folder(folder: Path) -> Path:
    """Writes model.onnx, model.xml, float.onnx, reference.npz, policy.json and layers.json; returns the folder."""
    torch.manual_seed(0)
    model = calibrate(Classifier(), torch.randn(16, 3, SIZE, SIZE), is_exact=True)
    x = torch.randn(8, 3, SIZE, SIZE)
    export_openvino(export_onnx(model, x[:1], folder / "model.onnx", policy=POLICY), folder / "model.xml")
    float_model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * (SIZE - 2) ** 2, 10))
    export_float_onnx(float_model, x[:1], folder / "float.onnx")
    record_reference(model, x, float_model=float_model).save(folder / "reference.npz")
    POLICY.save(folder / "policy.json")
    TABLE.save(folder / "layers.json")
    return folder
