"""Operations between a layer and the quantizer of the next one: exported, and proved in both engines."""

import copy

import pytest
import torch
import torch.nn.functional as F
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

from llt_nncf.pipeline import deploy

IMAGE, TOKENS = (3, 6, 7), (5, 6)


class Between(nn.Module):
    """A convolution, or a linear layer for tokens, ``operation``, and two linear layers."""

    def __init__(self, shape, operation, features):
        super().__init__()
        self.first = nn.Conv2d(shape[0], 8, 3) if len(shape) == 3 else nn.Linear(shape[-1], 8)
        self.second, self.last = nn.Linear(features, 8), nn.Linear(8, 4)
        self.operation = operation

    def forward(self, x):
        x = self.operation(F.relu(self.first(x)))
        return self.last(F.relu(self.second(x.mean(tuple(range(2, x.dim()))) if x.dim() > 2 else x)))


def clamped_and_read_twice(x):
    x = (x - 0.2).clamp(-0.1, 0.4)
    return x * torch.sigmoid(x)


OPERATIONS = {
    "largest-pixel": (IMAGE, lambda x: x.amax((2, 3)), 8),
    "largest-pixel-kept": (IMAGE, lambda x: x.amax((2, 3), keepdim=True), 8),
    "largest-token": (TOKENS, lambda x: x.amax(1), 8),
    "largest-token-kept": (TOKENS, lambda x: x.amax(1, keepdim=True).flatten(1), 8),
    "largest-with-position": (IMAGE, lambda x: x.flatten(2).max(2)[0], 8),
    "smallest": (IMAGE, lambda x: x.amin((2, 3)), 8),
    "top-k": (IMAGE, lambda x: x.flatten(2).topk(3, 2)[0].flatten(1), 24),
    "larger-of-two": (IMAGE, lambda x: torch.max(*x.chunk(2, 1)), 4),
    "smaller-of-two": (IMAGE, lambda x: torch.minimum(*x.chunk(2, 1)), 4),
    "masked": (IMAGE, lambda x: x.amax((2, 3)).masked_fill(torch.arange(8) > 5, 0.0), 8),
    "clamped-and-read-twice": (IMAGE, clamped_and_read_twice, 8),
    "tiled": (IMAGE, lambda x: torch.tile(x, (1, 1, 2, 1)), 8),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_stands_between_layers_is_exported_with_the_same_numbers(tmp_path, name):
    shape, operation, features = OPERATIONS[name]
    torch.manual_seed(0)
    model, x = Between(shape, operation, features), torch.randn(24, *shape)
    section = {
        "algorithm": "llt_quantization",
        "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
        "importance": {"indicator": "statistics"},
        "initializer": {"range": {"num_init_samples": 24}},
    }
    config = register_default_init_args(
        NNCFConfig.from_dict({"input_info": {"sample_size": [1, *shape]}, "compression": section}),
        DataLoader(TensorDataset(x, torch.zeros(24, dtype=torch.long)), batch_size=8),
    )
    controller, _ = create_compressed_model(copy.deepcopy(model), config, dump_graphs=False)
    report = deploy(controller, model, x, None, tmp_path / "out", latency_rounds=0)
    assert report.passed, report.faults
    assert report.sections["engines"]["openvino"]["kernels"].keys() == {"first", "second", "last"}
