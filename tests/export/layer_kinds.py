"""Every kind of layer, and of what stands between layers, as small frozen branches of one model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import nn

from tests.export.frozen_models import CHANNELS as C
from tests.export.frozen_models import SIZE
from tests.export.frozen_models import Layer
from tests.export.frozen_models import quantizer


@dataclass(frozen=True)
class Grid:
    """What is the same for all quantizers of a model; ``activation`` leaves nothing negative to an unsigned one."""

    num_bits: int
    signed: bool
    per_channel: bool = True
    is_exact: bool = True

    def quantizer(self, name: str) -> nn.Module:
        return quantizer(f"{name}|0", self.num_bits, self.signed)

    def layer(self, name: str, source: nn.Module, shape: tuple[int, ...], **options: Any) -> Layer:
        return Layer(
            name,
            source,
            shape,
            num_bits=self.num_bits,
            per_channel=self.per_channel,
            is_exact=self.is_exact,
            **options,
        )

    def activation(self, x: Tensor) -> Tensor:
        return x if self.signed else F.relu(x)


class Single(nn.Module):
    """Layer, activation function, quantizer; ``before`` only moves elements."""

    def __init__(self, grid, source, name, shape, *, before=None, activation=None, **options):
        super().__init__()
        self.layer = grid.layer(name, source, shape, **options)
        self.q = grid.quantizer(f"{name}/out")
        self.before = before or (lambda x: x)
        self.activation = activation or grid.activation

    def forward(self, x: Tensor) -> Tensor:
        return self.q(self.activation(self.layer(self.before(x))))


class Linear(nn.Module):
    """A linear layer that computes an output of the model: floats on the grid of its accumulator."""

    def __init__(self, grid, source, name):
        super().__init__()
        self.layer = grid.layer(name, source, (10, C * SIZE * SIZE))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.view(x.size(0), -1))


class Residual(nn.Module):
    """What a branch adds, or what is left of it."""

    def __init__(self, grid, source, name, *, combine=torch.add):
        super().__init__()
        self.grid = grid
        self.combine = combine
        self.layer = grid.layer(name, source, (C, C, 3, 3), padding=1)
        self.branch_q = quantizer(f"{name}/branch|0", 8, True)
        self.q = grid.quantizer(f"{name}/out")

    def forward(self, x: Tensor) -> Tensor:
        return self.q(self.grid.activation(self.combine(x, self.branch_q(self.layer(x)))))


class Concat(nn.Module):
    """Two branches; ``is_unified`` gives them one quantizer, as NNCF's unified scales have it, else a third follows."""

    def __init__(self, grid, source, name, *, is_unified):
        super().__init__()
        self.grid = grid
        self.left = grid.layer(f"{name}.left", source, (C, C, 1, 1))
        self.right = grid.layer(f"{name}.right", source, (C, C, 3, 3), padding=1)
        self.left_q = grid.quantizer(f"{name}/left")
        self.right_q = self.left_q if is_unified else grid.quantizer(f"{name}/right")
        self.q = nn.Identity() if is_unified else grid.quantizer(f"{name}/out")
        self.layer = grid.layer(name, self.left_q if is_unified else self.q, (C, 2 * C, 1, 1))
        self.out_q = grid.quantizer(f"{name}/after")

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.left_q(self.grid.activation(self.left(x))), self.right_q(self.grid.activation(self.right(x)))
        return self.out_q(self.grid.activation(self.layer(self.q(torch.cat([left, right], dim=1)))))


class Pooled(nn.Module):
    """Pooling whose average is quantized, then a layer."""

    def __init__(self, grid, source, name, pool, shape):
        super().__init__()
        self.pool = pool
        self.pool_q = quantizer(f"{name}/pool|0", 8, grid.signed)
        self.layer = grid.layer(name, self.pool_q, shape)
        self.q = grid.quantizer(f"{name}/out")
        self.activation = grid.activation

    def forward(self, x: Tensor) -> Tensor:
        return self.q(self.activation(self.layer(self.pool_q(self.pool(x)))))


class SqueezeExcite(nn.Module):
    """Channels weighted by a gate that two layers compute from their means."""

    def __init__(self, grid, source, name):
        super().__init__()
        self.pool_q = quantizer(f"{name}/pool|0", 8, grid.signed)
        self.squeeze = grid.layer(f"{name}.squeeze", self.pool_q, (4, C, 1, 1))
        self.squeeze_q = quantizer(f"{name}/squeeze|0", grid.num_bits)
        self.excite = grid.layer(f"{name}.excite", self.squeeze_q, (C, 4, 1, 1))
        self.gate_q = quantizer(f"{name}/gate|0", grid.num_bits)
        self.q = grid.quantizer(f"{name}/out")

    def forward(self, x: Tensor) -> Tensor:
        gate = self.squeeze_q(F.relu(self.squeeze(self.pool_q(F.adaptive_avg_pool2d(x, 1)))))
        return self.q(x * self.gate_q(F.hardtanh(self.excite(gate), 0.0, 1.0)))


class Attention(nn.Module):
    """Products of activations, each quantized; without softmax, so that all is exact. The projection has a bias."""

    def __init__(self, grid, source, name):
        super().__init__()
        self.grid = grid
        self.query = grid.layer(f"{name}.query", source, (C, C))
        self.query_q, self.weights_q = grid.quantizer(f"{name}/query"), grid.quantizer(f"{name}/weights")
        self.mixed_q = grid.quantizer(f"{name}/mixed")
        self.layer = grid.layer(name, self.mixed_q, (C, C))
        self.q = grid.quantizer(f"{name}/out")

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        query = self.query_q(self.grid.activation(self.query(x)))
        weights = self.weights_q(self.grid.activation(query @ x.transpose(1, 2)))
        return self.q(self.grid.activation(self.layer(self.mixed_q(weights @ x))))


class Reused(nn.Module):
    """A layer and a quantizer that are called twice."""

    def __init__(self, grid, source, name):
        super().__init__()
        self.grid = grid
        self.layer = grid.layer(name, source, (C, C, 3, 3), padding=1, has_bias=False)
        self.q = grid.quantizer(f"{name}/out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.q(self.grid.activation(self.layer(x)))
        return self.q(self.grid.activation(self.layer(x)))


class Permuted(Single):
    """A quantizer in front of a permutation of the dimensions, as behind a layer norm over channels."""

    def __init__(self, grid, source, name, shape, **options):
        between = grid.quantizer(f"{name}/in")
        super().__init__(grid, between, name, shape, **options)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.between(x.permute(0, 2, 3, 1) / 2).permute(0, 3, 1, 2))


def _moved(x: Tensor) -> Tensor:
    """Shuffles channels, crops, and enlarges again."""
    x = x.view(x.size(0), 2, C // 2, SIZE, SIZE).transpose(1, 2).reshape(x.size(0), C, SIZE, SIZE)
    return F.interpolate(torch.split(x, [C // 2, C // 2], dim=1)[1][:, :, 1:], scale_factor=2.0, mode="nearest")


_CONV = (C, C, 3, 3)
KINDS: dict[str, Callable[[Grid, nn.Module, str], nn.Module]] = {
    "plain": lambda *at: Single(*at, _CONV, padding=1),
    "depthwise": lambda *at: Single(*at, (C, 1, 3, 3), padding=1, groups=C),
    "grouped": lambda *at: Single(*at, (C, C // 2, 3, 3), padding=1, groups=2),
    "strided": lambda *at: Single(*at, _CONV, stride=2),
    "dilated": lambda *at: Single(*at, _CONV, padding=2, dilation=2),
    "no_bias": lambda *at: Single(*at, _CONV, has_bias=False),
    "transposed": lambda *at: Single(*at, _CONV, op=F.conv_transpose2d, stride=2),
    "conv1d": lambda *at: Single(*at, (C, C, 3), before=lambda x: x.flatten(2), op=F.conv1d, padding=1),
    "conv3d": lambda *at: Single(*at, (C, C // 2, 2, 3, 3), before=lambda x: x.unflatten(1, (-1, 2)), op=F.conv3d),
    "linear": Linear,
    "linear_3d": lambda *at: Single(*at, (C, SIZE * SIZE), before=lambda x: x.flatten(2)),
    "relu6": lambda *at: Single(*at, _CONV, activation=F.relu6),
    "add": Residual,
    "subtract": lambda *at: Residual(*at, combine=torch.sub),
    "concat": lambda *at: Concat(*at, is_unified=True),
    "concat_grids": lambda *at: Concat(*at, is_unified=False),
    "max_pool": lambda *at: Single(*at, _CONV, before=lambda x: F.max_pool2d(x, 2, 1)),
    "avg_pool": lambda *at: Pooled(*at, lambda x: F.avg_pool2d(x, 2), _CONV),
    "padded_pool": lambda *at: Pooled(*at, lambda x: F.avg_pool2d(x, 2, 1, 1), _CONV),
    "ceil_pool": lambda *at: Pooled(*at, lambda x: F.avg_pool2d(x, 4, 4, ceil_mode=True), (C, C, 1, 1)),
    "adaptive_pool": lambda *at: Pooled(*at, lambda x: F.adaptive_avg_pool2d(x, 3), _CONV),
    "pool_fc": lambda *at: Pooled(*at, lambda x: x[..., :4, :4].mean([2, 3]), (10, C)),
    "squeeze_excite": SqueezeExcite,
    "attention": Attention,
    "reused": Reused,
    "permuted": lambda *at: Permuted(*at, (C, 1, 3, 3), padding=1, groups=C),
    "moved": lambda *at: Single(*at, (C, C // 2, 3, 3), before=_moved, padding=1),
}

# Functions that the engines approximate, each in its own way, or that are not monotone.
FLOAT_KINDS: dict[str, Callable[[Grid, nn.Module, str], nn.Module]] = {
    "hardswish": lambda *at: Single(*at, _CONV, activation=F.hardswish),
    "hardsigmoid": lambda *at: Single(*at, _CONV, activation=F.hardsigmoid),
    "silu": lambda *at: Single(*at, _CONV, activation=F.silu),
    "gelu": lambda *at: Single(*at, _CONV, activation=F.gelu),
}


class Patterns(nn.Module):
    """All kinds behind one input quantizer, each an output of its own."""

    def __init__(self, grid: Grid, kinds=KINDS):
        super().__init__()
        self.outputs = list(kinds)
        self.in_q = grid.quantizer("model/in")
        self.kinds = nn.ModuleDict({name: make(grid, self.in_q, name) for name, make in kinds.items()})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.in_q(x)
        return tuple(kind(x) for kind in self.kinds.values())
