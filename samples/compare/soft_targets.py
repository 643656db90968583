"""Distillation from the float model: its outputs in the place of the labels."""

from collections.abc import Iterator

import torch
from setting import for_model
from torch import Tensor
from torch import nn
from torch.utils.data import DataLoader


class SoftTargets:
    """
    Batches with a teacher's softened outputs in the place of the labels (Hinton et al., arXiv:1503.02531).

    :param loader: Batches of (images, labels).
    :param teacher: Run in evaluation mode, without gradients.
    :param temperature: Its outputs are divided by it.
    """

    def __init__(self, loader: DataLoader, teacher: nn.Module, temperature: float):
        self.loader = loader
        self.teacher = teacher.eval()
        self.temperature = temperature

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch, _ in self.loader:
            images = for_model(batch, self.teacher)
            with torch.no_grad():
                outputs = self.teacher(images)
            yield images, (outputs / self.temperature).softmax(1)


class SoftTargetLoss(nn.Module):
    """
    Cross entropy with soft targets at their temperature, times its square, which keeps the size of the gradients.

    :param temperature: The outputs are divided by it.
    """

    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.temperature**2 * nn.functional.cross_entropy(outputs / self.temperature, targets)
