"""The model that is fine-tuned and evaluated has the biases of the frozen one, to float accuracy."""

import copy
import random

import pytest
import torch
from nncf.torch import load_state
from torch import nn

from llt_nncf.artifacts import BitPolicy


class Mixed(nn.Module):
    """A depthwise layer, a transposed convolution, a batch norm without parameters, and linear layers with one."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn1 = nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.depthwise, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6, affine=False)
        self.up, self.bn3 = nn.ConvTranspose2d(6, 8, 2, stride=2, bias=False), nn.BatchNorm2d(8)
        self.grouped = nn.ConvTranspose2d(8, 6, 2, groups=2)
        self.hidden, self.bn4 = nn.Linear(6, 10), nn.BatchNorm1d(10)
        self.fc = nn.Linear(10, 4)

    def forward(self, x):
        x = torch.relu(self.bn1(self.stem(x)))
        x = torch.relu(self.bn2(self.depthwise(x)))
        x = torch.relu(self.grouped(torch.relu(self.bn3(self.up(x)))))
        return self.fc(torch.relu(self.bn4(self.hidden(x.mean((2, 3))))))


@pytest.fixture
def mixed(loader):
    torch.manual_seed(1)
    model = Mixed()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 0.5, 0.7)
            nn.init.normal_(module.bias, 0.0, 0.3)
    for x, _ in loader:
        model(x)
    return model


def low_bits(table, seed, path):
    """A policy of 2 to 4 bits wherever there is a choice."""
    draw = random.Random(seed)
    inputs = {name: draw.choice([2, 3, 4]) for name in table.groups}
    bits = {
        layer.name: layer.uniform_bits(draw.choice([2, 3, 4]), inputs[layer.activation_group]) for layer in table.layers
    }
    return str(BitPolicy(bits).save(path))


def outputs(model, loader):
    x = next(iter(loader))[0].to(next(model.parameters()))
    with torch.no_grad():
        return model.eval()(x)


def owners(model):
    return [module for module in model.modules() if hasattr(module, "rounded_bias")]


def without_rounding(model):
    model = copy.deepcopy(model)
    for module in owners(model):
        module.rounded_bias.remove()
    return model


@pytest.fixture(params=["residual", "mixed"])
def finetuned(request, compress, loader, tmp_path):
    """Returns ``make(seed) -> (controller, model)``: a random low-bit policy and one epoch of fine-tuning."""

    def make(seed):
        network = request.getfixturevalue(request.param)
        table = compress(copy.deepcopy(network), importance={"where": "training"})[0].table
        ctrl, model = compress(copy.deepcopy(network), policy=low_bits(table, seed, tmp_path / f"{seed}.json"))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        model.train()
        for x, target in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), target).backward()
            optimizer.step()
        return ctrl, model

    return make


@pytest.mark.parametrize("seed", range(3))
def test_the_evaluated_model_is_the_frozen_one(finetuned, loader, seed):
    ctrl, model = finetuned(seed)
    live = copy.deepcopy(model).double()  # where the order of float sums decides no rounding
    expected = outputs(live, loader)
    plain = outputs(without_rounding(live), loader)
    frozen = ctrl.strip_model(live)
    torch.testing.assert_close(outputs(frozen, loader), expected, rtol=1e-9, atol=1e-9)
    assert owners(frozen) == []
    # What the rounding does is no matter of float accuracy.
    assert float((expected - plain).abs().max()) > 1e-4


def test_gradients_reach_every_bias_as_if_it_were_not_rounded(compress, mixed, loader, tmp_path):
    table = compress(copy.deepcopy(mixed), importance={"where": "training"})[0].table
    _, model = compress(mixed, policy=low_bits(table, 0, tmp_path / "p.json"))
    assert len(owners(model)) == 6
    model.train()
    x, target = next(iter(loader))
    nn.functional.cross_entropy(model(x), target).backward()
    biases = {name: p.grad for name, p in model.named_parameters() if name.endswith("bias")}
    # A bias in front of a batch norm of this batch's mean changes nothing; that of bn2 has no parameter.
    assert {name for name, grad in biases.items() if float(grad.abs().max()) > 1e-4} == {
        *("bn1.bias", "bn3.bias", "bn4.bias", "grouped.bias", "fc.bias")
    }
    # d loss / d bias of the last layer is mean(softmax - onehot), whatever the bias was rounded to.
    probabilities = torch.softmax(model.eval()(x), 1)
    model.zero_grad()
    nn.functional.cross_entropy(model(x), target).backward()
    wanted = (probabilities - nn.functional.one_hot(target, 4)).mean(0)
    torch.testing.assert_close(model.fc.bias.grad, wanted, rtol=1e-4, atol=1e-6)


def test_the_biases_move_while_training_and_keep_to_the_grid_of_the_moment(compress, mixed, loader, tmp_path):
    ctrl, model = compress(mixed)
    input_step = ctrl.quantizers.activations[ctrl.table.by_name["fc"].activation_group]
    weight_step = ctrl.quantizers.weights["fc"]
    seen = []
    model.fc.register_forward_hook(lambda module, inputs, output: seen.append(module.bias.detach().clone()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hook = model.fc.register_forward_pre_hook(lambda module, inputs: seen.append(module.bias.detach().clone()))
    for x, target in loader:
        grid = (input_step.step_size() * weight_step.step_size()).detach()
        nn.functional.cross_entropy(model(x), target).backward()
        used = seen[-2]
        torch.testing.assert_close(used, (used / grid).round() * grid, rtol=1e-5, atol=1e-7)
        optimizer.step()
        optimizer.zero_grad()
    hook.remove()
    assert not torch.equal(seen[0], seen[-2])


def test_nothing_is_added_to_the_state_and_a_resume_rounds_again(compress, residual, loader):
    ctrl, model = compress(copy.deepcopy(residual))
    assert model.state_dict().keys() == without_rounding(model).state_dict().keys()
    resumed_ctrl, resumed = compress(
        copy.deepcopy(residual), compression_state=ctrl.get_compression_state(), register=False
    )
    load_state(resumed, model.state_dict(), is_resume=True)
    assert len(owners(resumed)) == len(owners(model)) == 5
    assert torch.equal(outputs(resumed, loader), outputs(model, loader))
    assert not torch.equal(outputs(without_rounding(resumed), loader), outputs(model, loader))


def test_while_indicators_are_trained_no_bias_is_rounded(compress, residual, loader):
    ctrl, model = compress(residual, importance={"where": "training"})
    for _ in ctrl.policies():
        model(next(iter(loader))[0])
    assert owners(model) == []
    ctrl.search()
    assert len(owners(model)) == 5
    # A search again finds them there.
    ctrl.search()
    assert len(owners(model)) == 5


def test_a_failed_forward_leaves_the_parameter_in_its_place(compress, residual, loader):
    _, model = compress(residual)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model.fc(torch.zeros(1, 5))
    assert all(isinstance(module.bias, nn.Parameter) for module in owners(model))


class OwnBatchNorm(nn.BatchNorm2d):
    """A class that NNCF does not know, and does not replace by one of its own."""


def test_batch_norms_that_nncf_leaves_alone_round_as_well(compress, residual, loader):
    own = OwnBatchNorm(12)
    own.load_state_dict(residual.bn2.state_dict())
    residual.bn2 = own
    ctrl, model = compress(residual)
    assert type(model.bn2) is OwnBatchNorm
    assert model.bn2 in owners(model)
    live = copy.deepcopy(model).double()
    expected = outputs(live, loader)
    torch.testing.assert_close(outputs(ctrl.strip_model(live), loader), expected, rtol=1e-9, atol=1e-9)
