"""The models of the classification sample."""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch import nn
from torchvision import models as torchvision_models


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a way around them, which the subclasses define."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()

    def shortcut(self, x: Tensor) -> Tensor:
        """Returns ``x`` in the shape of the block's output."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(out + self.shortcut(x))


class DigitsBlock(ResidualBlock):
    """Where the shape changes, the way around is a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels, out_channels, stride)
        self.downsample = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def shortcut(self, x: Tensor) -> Tensor:
        return self.downsample(x)


class CifarBlock(ResidualBlock):
    """Where the shape changes, the way around takes every second pixel and adds channels of zeros."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels, out_channels, stride)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def shortcut(self, x: Tensor) -> Tensor:
        if not self.new_channels:
            return x
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, self.new_channels // 2, self.new_channels // 2))


class DigitsCnn(nn.Module):
    """A residual network of eight layers and 43,000 weights for images of 8x8 pixels."""

    def __init__(self, *, num_classes: int, in_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.relu = nn.ReLU()
        self.block1 = DigitsBlock(24, 24, stride=1)
        self.block2 = DigitsBlock(24, 48, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.pool(self.block2(self.block1(x)))
        return self.fc(torch.flatten(x, 1))


class CifarResNet(nn.Module):
    """
    ResNet for CIFAR-10 (He et al., CVPR 2016, Sec. 4.2), with shortcuts of option A: they have no weights.

    :param blocks: In each of the three stages; ``6 * blocks + 2`` layers in all.
    """

    def __init__(self, blocks: int, *, num_classes: int, in_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(in_channels: int, out_channels: int, blocks: int, *, stride: int) -> nn.Sequential:
        first = CifarBlock(in_channels, out_channels, stride)
        return nn.Sequential(first, *(CifarBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.pool(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(torch.flatten(x, 1))


class DepthwiseSeparable(nn.Module):
    """A 3x3 convolution within each channel, and a 1x1 convolution across the channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv_dw = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU6()
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.bn2(self.conv_pw(self.relu1(self.bn1(self.conv_dw(x))))))


class MobileNetV1(nn.Module):
    """
    MobileNet (Howard et al., arXiv:1704.04861, Table 1): 28 layers, 4.2 million weights, 0.569e9 MACs at 224 px.

    The names are those of timm's ``mobilenetv1_100``, so that its published weights fit.

    :param stem_channels: Of the first layer; 32 is MobileNet 1.0, and the others go with it.
    :param stem_stride: Of the first layer.
    """

    def __init__(self, stem_channels: int = 32, stem_stride: int = 2, *, num_classes: int, in_channels: int):
        super().__init__()
        self.conv_stem = nn.Conv2d(in_channels, stem_channels, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU6()
        stages, channels = [], stem_channels
        for depth, factor, stride in ((1, 2, 1), (2, 4, 2), (2, 8, 2), (6, 16, 2), (2, 32, 2)):
            out_channels = factor * stem_channels
            others = [DepthwiseSeparable(out_channels, out_channels, 1) for _ in range(depth - 1)]
            stages.append(nn.Sequential(DepthwiseSeparable(channels, out_channels, stride), *others))
            channels = out_channels
        self.blocks = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.relu(self.bn1(self.conv_stem(x))))
        return self.classifier(torch.flatten(self.pool(x), 1))


_OWN: dict[str, Callable[..., nn.Module]] = {
    "digits-cnn": DigitsCnn,
    "resnet20": partial(CifarResNet, 3),
    "resnet32": partial(CifarResNet, 5),
    "resnet56": partial(CifarResNet, 9),
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v1_cifar": partial(MobileNetV1, stem_channels=16, stem_stride=1),
}


def check_name(name: str) -> None:
    """
    Checks that there is such a model.

    :raises ValueError: If there is none; the nearest names and all others are given.
    """
    known = [*_OWN, *torchvision_models.list_models(module=torchvision_models)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"There is no model {name!r}. {hint}There are: {', '.join(known)}.")


def build_model(name: str, *, num_classes: int, in_channels: int, weights: Path | str | None = None) -> nn.Module:
    """
    Builds a classifier.

    :param name: ``digits-cnn``; ``resnet20``, ``resnet32``, ``resnet56`` and ``mobilenet_v1_cifar`` (half as wide, the
        first stride 1) for 32x32 pixels; ``mobilenet_v1``; or any classifier of torchvision.
    :param num_classes: Number of outputs.
    :param in_channels: Channels of the input; 3 for torchvision's models.
    :param weights: A ``.safetensors`` file with the state dict; ``"torchvision"`` for torchvision's own (1,000 classes,
        downloaded at first use); or nothing, for random ones.
    :return: The model in training mode, on the CPU.
    :raises ValueError: If there is no such model, or the weights do not fit it; all misfits are named.
    :raises FileNotFoundError: If there is no such file.
    """
    check_name(name)
    if name in _OWN:
        if weights == "torchvision":
            raise ValueError(f"torchvision has no weights for {name}; give a .safetensors file.")
        model = _OWN[name](num_classes=num_classes, in_channels=in_channels)
    else:
        if in_channels != 3:
            raise ValueError(f"torchvision's {name} needs images of 3 channels, not of {in_channels}.")
        if weights == "torchvision":
            if num_classes != 1000:
                raise ValueError(f"torchvision's weights of {name} are for 1000 classes, not for {num_classes}.")
            return torchvision_models.get_model(name, weights="DEFAULT")
        model = torchvision_models.get_model(name, num_classes=num_classes)
    if weights is not None:
        _load_weights(model, Path(weights))
    return model


def _load_weights(model: nn.Module, path: Path) -> None:
    """Fills ``model`` from a safetensors file that must have its tensors exactly, by name and shape."""
    if path.suffix != ".safetensors":
        raise ValueError(f"Weights are read from .safetensors files; {path} is none.")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    given, wanted = load_file(path), model.state_dict()
    faults = [f"{key} is missing" for key in wanted if key not in given]
    faults += [f"{key} is unknown" for key in given if key not in wanted]
    faults += [
        f"{key} has the shape {list(given[key].shape)}, not {list(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    if faults:
        raise ValueError(f"{path} does not fit the model: {'; '.join(faults)}.")
    model.load_state_dict(given)
