"""A network with layers that a rival must find, its table, and data: small enough to count by hand."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable

ROOT = Path(__file__).parents[3]
SEARCHED = (6, 5, 4, 3, 2)


@pytest.fixture(scope="module")
def sample():
    """Imports a module of the sample by its name; afterwards the name is free for that of another sample."""
    folder = ROOT / "samples" / "compare"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "samples" / "classification"))
        patch.syspath_prepend(str(folder))
        yield importlib.import_module
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if "." not in name}
    for name in [name for name, file in files.items() if file and Path(file).parent == folder]:
        del sys.modules[name]


class Small(nn.Module):
    """Two searched convolutions between a first and a last layer of 8 bits; images of 1x8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU()
        )
        self.linear = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.relu1(self.bn1(self.conv1(x))))
        return self.linear(x.mean((2, 3)))


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def table() -> LayerTable:
    """Weights: 72, 576, 1152 and 64. MACs: 64 pixels, but 36 behind the convolution without padding."""
    return LayerTable(
        (
            Layer("conv1", 64 * 72, 72, "input", (8,), (8,)),
            Layer("body.0", 64 * 576, 576, "relu1", SEARCHED, SEARCHED),
            Layer("body.3", 36 * 1152, 1152, "body.2", SEARCHED, SEARCHED),
            Layer("linear", 64, 64, "mean", (8,), (8,)),
        )
    )


@pytest.fixture
def weights_only(table: LayerTable) -> LayerTable:
    return LayerTable(
        tuple(
            Layer(row.name, row.macs, row.weight_count, row.activation_group, row.weight_bits, (8,))
            for row in table.layers
        )
    )


@pytest.fixture
def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 4, (64,), generator=generator)
    return DataLoader(TensorDataset(images, labels), batch_size=16)
