"""Distilled losses and their gradients against expressions written out here."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from llt_nncf.errors import ConfigError
from llt_nncf.errors import InvalidTensorError
from llt_nncf.indicators.distillation import DistilledLoss


class Scaled(nn.Module):
    """A linear map with a factor to switch between passes, as bit-widths are."""

    def __init__(self, seed: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)))
        self.factor = 1.0
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.factor * torch.einsum("nc...,kc->nk...", x, self.weight)


def batch_of(*positions: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(8, 5, *positions, generator=generator),
        torch.randint(3, (8, *positions), generator=generator),
    )


def label_loss(model: nn.Module, batch) -> torch.Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def gradient(loss: torch.Tensor, model: Scaled) -> torch.Tensor:
    return torch.autograd.grad(loss, model.weight)[0]


def soft_loss(weight: torch.Tensor, factor: float, x: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """The definition, with exponentials and a sum over classes; mean over samples and positions."""
    outputs = factor * torch.einsum("nc...,kc->nk...", x, weight)
    log_probabilities = outputs - outputs.exp().sum(1, keepdim=True).log()
    return -(soft * log_probabilities).sum(1).mean()


def soft_targets(weight: torch.Tensor, factor: float, x: torch.Tensor) -> torch.Tensor:
    exponentials = (factor * torch.einsum("nc...,kc->nk...", x, weight.detach())).exp()
    return exponentials / exponentials.sum(1, keepdim=True)


@pytest.mark.parametrize("positions", [(), (4,), (2, 3)], ids=str)
def test_in_place_the_first_pass_learns_from_labels_and_later_ones_from_its_outputs(positions):
    model, batch = Scaled(0), batch_of(*positions)
    distilled = DistilledLoss(label_loss, kind="in_place")
    for step in range(2):
        distilled.new_batch()
        batch = batch_of(*positions, seed=step)
        model.factor = 1.0
        first = distilled(model, batch)
        assert torch.equal(first, label_loss(model, batch))
        assert torch.equal(gradient(first, model), gradient(label_loss(model, batch), model))
        soft = soft_targets(model.weight, 1.0, batch[0])
        for factor in (0.7, 0.3):
            model.factor = factor
            later, expected = distilled(model, batch), soft_loss(model.weight, factor, batch[0], soft)
            torch.testing.assert_close(later, expected)
            torch.testing.assert_close(gradient(later, model), gradient(expected, model))


def test_in_place_no_gradient_flows_into_the_pass_that_teaches():
    first, later, batch = Scaled(0), Scaled(1), batch_of()
    distilled = DistilledLoss(label_loss, kind="in_place")
    distilled(first, batch)
    distilled(later, batch).backward()
    assert first.weight.grad is None
    assert later.weight.grad is not None


@pytest.mark.parametrize("positions", [(), (2, 3)], ids=str)
def test_every_pass_learns_from_the_teacher_which_is_asked_once_per_batch(positions):
    model, teacher = Scaled(0), Scaled(1)
    distilled = DistilledLoss(label_loss, kind="teacher", teacher=teacher)
    for step in range(3):
        distilled.new_batch()
        x, _ = batch = batch_of(*positions, seed=step)
        soft = soft_targets(teacher.weight, 1.0, x)
        for factor in (1.0, 0.7, 0.3):
            model.factor = factor
            loss, expected = distilled(model, batch), soft_loss(model.weight, factor, x, soft)
            torch.testing.assert_close(loss, expected)
            expected_gradient = gradient(expected, model)
            model.weight.grad = None
            loss.backward()
            torch.testing.assert_close(model.weight.grad, expected_gradient)
    assert teacher.calls == 3
    assert teacher.weight.grad is None


def test_the_teacher_is_evaluated_in_evaluation_mode_and_stays_as_it_was():
    teacher = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Dropout(0.9))
    teacher.train()
    teacher[0].eval()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    model, batch = Scaled(0), batch_of()
    loss = DistilledLoss(label_loss, kind="teacher", teacher=teacher)(model, batch)
    assert [module.training for module in teacher] == [False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    soft = functional.softmax(teacher.eval()(batch[0]).detach(), 1)
    torch.testing.assert_close(loss, soft_loss(model.weight, 1.0, batch[0], soft))


def test_of_several_calls_of_the_model_the_last_one_counts():
    def two_views(model, batch):
        return label_loss(model, batch) + label_loss(model, (2 * batch[0], batch[1]))

    model, teacher, batch = Scaled(0), Scaled(1), batch_of()
    loss = DistilledLoss(two_views, kind="teacher", teacher=teacher)(model, batch)
    soft = soft_targets(teacher.weight, 1.0, 2 * batch[0])
    torch.testing.assert_close(loss, soft_loss(model.weight, 1.0, 2 * batch[0], soft))


def test_outputs_in_half_precision_are_compared_in_float32():
    class Half(Scaled):
        def forward(self, x):
            return super().forward(x).bfloat16()

    model, teacher, batch = Half(0), Half(1), batch_of()
    loss = DistilledLoss(label_loss, kind="teacher", teacher=teacher)(model, batch)
    assert loss.dtype == torch.float32
    outputs, targets = model(batch[0]).double(), functional.softmax(teacher(batch[0]).double(), 1)
    expected = -(targets * functional.log_softmax(outputs, 1)).sum(1).mean()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)


def test_no_hook_stays_on_the_model_also_after_an_error():
    model, batch = Scaled(0), batch_of()
    distilled = DistilledLoss(label_loss, kind="in_place")
    distilled(model, batch)
    with pytest.raises(IndexError):
        distilled(model, batch[:1])
    assert not model._forward_hooks


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (lambda x: {"logits": x}, "Wrapped returns a dict"),
        (lambda x: (x, x), "Wrapped returns a tuple"),
        (lambda x: x.argmax(1, keepdim=True), r"torch.int64 tensor of shape \(8, 1\)"),
        (lambda x: x.sum((1,)), r"torch.float32 tensor of shape \(8,\)"),
    ],
    ids=["dict", "tuple", "integers", "vector"],
)
def test_outputs_that_are_not_logits_are_refused_with_what_to_do(output, found):
    class Wrapped(Scaled):
        def forward(self, x):
            return output(super().forward(x))

    def loss_fn(model, batch):
        model(batch[0])
        return model.weight.sum()

    with pytest.raises(InvalidTensorError, match=f"{found}. Wrap the model so that it returns its logits alone"):
        DistilledLoss(loss_fn, kind="in_place")(Wrapped(0), batch_of())


def test_a_loss_function_that_calls_another_model_is_refused():
    other = Scaled(1)
    distilled = DistilledLoss(lambda model, batch: label_loss(other, batch), kind="in_place")
    with pytest.raises(InvalidTensorError, match="did not call the model"):
        distilled(Scaled(0), batch_of())


def test_a_teacher_of_other_classes_is_refused_with_both_shapes():
    teacher = nn.Linear(5, 7)
    with pytest.raises(InvalidTensorError, match=r"\(8, 3\).*\(8, 7\)"):
        DistilledLoss(label_loss, kind="teacher", teacher=teacher)(Scaled(0), batch_of())


@pytest.mark.parametrize(
    ("kind", "teacher"), [("sandwich", None), ("teacher", None), ("in_place", nn.Identity())], ids=str
)
def test_kinds_that_make_no_sense_are_refused(kind, teacher):
    with pytest.raises(ConfigError, match="'in_place'.*'teacher'|'teacher'.*'in_place'"):
        DistilledLoss(label_loss, kind=kind, teacher=teacher)
