"""Registers the algorithm before any test of this folder imports nncf.torch, and makes small models and data."""

from collections.abc import Callable
from typing import Any

import llt_nncf.register  # noqa: F401

# isort: split

import numpy as np
import onnxruntime
import pytest
import torch
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

from tests.adapter.batch_norms import settle_batch_norms


class Residual(nn.Module):
    """Stem, a residual block whose first convolution and downsample share their input, pool, classifier."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(12)
        self.conv3 = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.bn3 = nn.BatchNorm2d(12)
        self.down = nn.Conv2d(8, 12, 1, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(x)))))
        x = torch.relu(y + self.down(x))
        return self.fc(self.pool(x).flatten(1))


class Concat(nn.Module):
    """Two branches whose outputs are concatenated, so that NNCF unifies their quantizers, and a depthwise layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.right = nn.Conv2d(8, 8, 1)
        self.merge = nn.Conv2d(16, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        return self.fc(torch.relu(self.merge(x)).mean((2, 3)))


_CRITERION = nn.CrossEntropyLoss()


@pytest.fixture
def loader() -> DataLoader:
    """Four classes, each a pattern in noise; 7x9 images, so that strides do not divide them."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(4, 2, 7, 9, generator=generator)
    labels = torch.arange(128) % 4
    images = patterns[labels] + 0.3 * torch.randn(128, 2, 7, 9, generator=generator)
    return DataLoader(TensorDataset(images, labels), batch_size=32)


@pytest.fixture
def compress(loader, tmp_path) -> Callable[..., Any]:
    """Returns ``compress(model, **section) -> (controller, model)``."""

    def run(
        model: nn.Module,
        *,
        compression_state: Any = None,
        register: bool = True,
        criterion: Any = _CRITERION,
        **section: Any,
    ):
        content = {
            "input_info": {"sample_size": [1, 2, 7, 9]},
            "compression": {
                "algorithm": "llt_quantization",
                "budget": {"bitops_as": {"weight_bits": 3, "activation_bits": 3}},
                "artifacts_dir": str(tmp_path / "artifacts"),
                "initializer": {
                    "range": {"num_init_samples": 64},
                    "batchnorm_adaptation": {"num_bn_adaptation_samples": 64},
                },
                **section,
            },
        }
        config = NNCFConfig.from_dict(content)
        if register:
            config = register_default_init_args(config, loader, criterion=criterion)
        return create_compressed_model(model, config, compression_state=compression_state, dump_graphs=False)

    return run


@pytest.fixture
def create(loader) -> Callable[..., Any]:
    """Returns ``create(model, section, **keys of the whole config) -> (controller, model)``; it is not trained."""

    def run(model: nn.Module, section: Any = (), *, compression_state: Any = None, data: Any = loader, **top: Any):
        content = {
            "input_info": {"sample_size": [1, 2, 7, 9]},
            "compression": {
                "algorithm": "llt_quantization",
                "budget": {"gbitops": 100.0},
                "importance": {"indicator": "statistics"},
                "initializer": {
                    "range": {"num_init_samples": 64},
                    "batchnorm_adaptation": {"num_bn_adaptation_samples": 0},
                },
                **dict(section),
            },
            **top,
        }
        config = register_default_init_args(NNCFConfig.from_dict(content), data, criterion=_CRITERION)
        return create_compressed_model(model, config, compression_state=compression_state, dump_graphs=False)

    return run


@pytest.fixture
def check_export(loader, tmp_path) -> Callable[[Any], None]:
    """Returns ``check_export(controller, basic=False)``: ONNX Runtime computes what the frozen model computes."""

    def check(ctrl: Any, *, basic: bool = False) -> None:
        ctrl.export_model(str(tmp_path / "model.onnx"))
        x = next(iter(loader))[0]
        with torch.no_grad():
            frozen = ctrl.strip()(x).numpy()
        options = onnxruntime.SessionOptions()
        if basic:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session = onnxruntime.InferenceSession(
            str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        np.testing.assert_allclose(found, frozen, atol=1e-4)

    return check


@pytest.fixture
def residual() -> nn.Module:
    """A residual network with batch-norm statistics that are not the trivial ones, some gains negative."""
    torch.manual_seed(0)
    return settle_batch_norms(Residual())


@pytest.fixture
def concat() -> nn.Module:
    """The network with a concatenation."""
    torch.manual_seed(0)
    return Concat()
