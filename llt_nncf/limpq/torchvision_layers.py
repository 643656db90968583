"""Layers of a torchvision classifier with their MACs."""

from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor
from torch import nn

from llt_nncf.errors import ArtifactError


@dataclass(frozen=True)
class ModelLayer:
    """
    A convolution or linear layer.

    :param name: Name of the module.
    :param macs: Multiply-accumulates for one sample, each side of the output rounded down as the layer does.
    :param macs_authors: As the LIMPQ authors' script counts them: the product of the two sides is rounded down, not
        each of them, so that strided convolutions come out too high; kernels are taken for square.
    :param weight_count: Without the bias.
    :param depthwise: Whether every filter reads one channel of many.
    """

    name: str
    macs: int
    macs_authors: int
    weight_count: int
    depthwise: bool


def survey_torchvision(model_name: str, *, image_size: int = 224) -> list[ModelLayer]:
    """
    Sends one image of no values through the model and notes its layers, in the order in which they are called.

    :param model_name: A name of ``torchvision.models``, for example ``resnet50``.
    :param image_size: Side of the square image.
    :raises ArtifactError: If torchvision has no such classifier, or it does not take such an image.
    """
    model = _make_classifier(model_name)
    found: dict[str, ModelLayer] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[name] = _measure(name, module, inputs[0], output)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(note(name))
    try:
        with torch.no_grad(), torch.device("meta"):
            model(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError) as error:
        msg = f"--model {model_name} does not take images of {image_size} x {image_size}: {error}"
        raise ArtifactError(msg) from error
    return list(found.values())


def _make_classifier(model_name: str) -> nn.Module:
    """Returns it without values in its weights."""
    if model_name not in torchvision.models.list_models(module=torchvision.models):
        msg = (
            f"--model {model_name}: torchvision has no such classifier. It has for example resnet18, resnet50 and "
            "mobilenet_v2."
        )
        raise ArtifactError(msg)
    try:
        with torch.device("meta"):
            return torchvision.models.get_model(model_name, weights=None).eval()
    except NotImplementedError:  # RegNets work out their widths with tensors
        return torchvision.models.get_model(model_name, weights=None).eval().to("meta")


def _measure(name: str, module: nn.Conv2d | nn.Linear, image: Tensor, output: Tensor) -> ModelLayer:
    count = module.weight.numel()
    if isinstance(module, nn.Linear):
        macs = output.numel() * module.in_features
        return ModelLayer(name, macs, macs, count, depthwise=False)
    spans = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    # padding is a name only where somebody asks for "same", which no classifier of torchvision does.
    pads = [0, 0] if isinstance(module.padding, str) else module.padding
    height, width = (
        (side + 2 * pad - span) / stride + 1
        for side, pad, span, stride in zip(image.shape[2:], pads, spans, module.stride, strict=True)
    )
    squared = module.in_channels * module.out_channels * int(height * width) * module.kernel_size[0] ** 2
    macs, macs_authors = output.shape[2] * output.shape[3] * count, squared // module.groups
    return ModelLayer(name, macs, macs_authors, count, depthwise=module.groups == module.in_channels > 1)
