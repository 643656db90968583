"""Distillation in the comparison's fine-tuning: the teacher's outputs take the labels' place."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset


def logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_the_gradient_is_that_of_the_divergence_from_the_teacher(sample, temperature: float):
    student = logits(1).requires_grad_()
    targets = (logits(2) / temperature).softmax(1)
    sample("soft_targets").SoftTargetLoss(temperature)(student, targets).backward()

    plain = student.detach().clone().requires_grad_()
    divergence = functional.kl_div((plain / temperature).log_softmax(1), targets, reduction="batchmean")
    (temperature**2 * divergence).backward()
    torch.testing.assert_close(student.grad, plain.grad)


def test_batches_have_the_softened_outputs_of_the_teacher_in_evaluation_mode(sample):
    images, labels = torch.randn(6, 3, 4, 4), torch.arange(6)
    teacher = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(0.9), nn.Linear(48, 7))
    batches = sample("soft_targets").SoftTargets(DataLoader(TensorDataset(images, labels), 4), teacher, temperature=2.0)
    assert len(batches) == 2
    seen = list(batches)
    torch.testing.assert_close(torch.cat([x for x, _ in seen]), images)
    expected = (teacher(images) / 2).softmax(1)
    torch.testing.assert_close(torch.cat([targets for _, targets in seen]), expected)
    assert not seen[0][1].requires_grad
