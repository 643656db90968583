"""NNCF's usual loop of training, for the tests that need a model that has been through it."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader


def finetune(ctrl: Any, model: nn.Module, loader: DataLoader, *, epochs: int) -> list[int]:
    """Trains with the one added line; returns the number of passes of each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    passes = []
    for _ in range(epochs):
        ctrl.scheduler.epoch_step()
        model.train()
        for images, target in loader:
            ctrl.scheduler.step()
            optimizer.zero_grad()
            count = 0
            for _ in ctrl.policies():
                (nn.functional.cross_entropy(model(images), target) + ctrl.loss()).backward()
                count += 1
            optimizer.step()
            passes.append(count)
    return passes
