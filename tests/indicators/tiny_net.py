"""A network of two layers with switchable quantizers, and data for it."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.indicators import QuantizerSet
from llt_nncf.indicators import start_step_sizes
from llt_nncf.quantizers import SwitchableQuantizer

CANDIDATES = (4, 3, 2)


class TinyNet(nn.Module):
    """Two searched layers between which a ReLU stands, and a fixed one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        self.conv_weight = SwitchableQuantizer(CANDIDATES, is_weight=True)
        self.conv_input = SwitchableQuantizer(CANDIDATES)
        self.fc_weight = SwitchableQuantizer((8,), is_weight=True)
        self.fc_input = SwitchableQuantizer(CANDIDATES, signed=False)

    def forward(self, x):
        x = functional.conv2d(self.conv_input(x), self.conv_weight(self.conv.weight), self.conv.bias, padding=1)
        x = self.fc_input(functional.relu(x).mean((2, 3)))
        return functional.linear(x, self.fc_weight(self.fc.weight), self.fc.bias)


class NormedNet(TinyNet):
    """With a batch norm between the layers, whose statistics every pass in training mode moves."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        x = functional.conv2d(self.conv_input(x), self.conv_weight(self.conv.weight), self.conv.bias, padding=1)
        x = self.fc_input(functional.relu(self.norm(x)).mean((2, 3)))
        return functional.linear(x, self.fc_weight(self.fc.weight), self.fc.bias)


def quantizer_set(net: TinyNet) -> QuantizerSet:
    layers = (
        Layer("conv", 100, 72, "conv_input", CANDIDATES, CANDIDATES),
        Layer("fc", 12, 12, "fc_input", (8,), CANDIDATES),
    )
    weights = {"conv": net.conv_weight, "fc": net.fc_weight}
    return QuantizerSet(LayerTable(layers), weights, {"conv_input": net.conv_input, "fc_input": net.fc_input})


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 8, 2, 5, 5, generator=generator)
    return [(x, torch.randint(3, (8,), generator=generator)) for x in images]


class NoisySet(Dataset):
    """Images that the global generator augments, so that a resume must put that back too."""

    def __init__(self, length: int):
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(2, 5, 5, generator=generator) + 0.1 * torch.randn(2, 5, 5), index % 3


def loss_fn(model: nn.Module, batch) -> torch.Tensor:
    images, target = (part.to(next(model.parameters()).device) for part in batch)
    return functional.cross_entropy(model(images), target)


def started_net(kind: type[TinyNet] = TinyNet) -> TinyNet:
    torch.manual_seed(0)
    net = kind()
    start_step_sizes(net, quantizer_set(net), batches(2), lambda model, batch: model(batch[0]))
    # Away from the point where the largest weight lies on the end of its range, and a last bit decides its gradient.
    net.fc_weight.set_step_size(8, 1.05 * net.fc_weight.step_size(8))
    return net
