"""At initialisation, in the script's loop, and standalone: the same numbers from the same seed."""

import copy
import math

import pytest
import torch
from torch import nn

from llt_nncf.indicators import insert_quantizers
from llt_nncf.indicators import train_indicators
from tests.devices import DEVICES

CANDIDATES = (6, 5, 4, 3, 2)
EPOCHS = 2
SEED = 7
CRITERION = nn.CrossEntropyLoss()


def loss_fn(model, batch):
    images, target = (part.to(next(model.parameters()).device) for part in batch)
    return CRITERION(model(images), target)


def at_initialization(compress, model, loader):
    ctrl, _ = compress(model, importance={"epochs": EPOCHS, "seed": SEED})
    return ctrl


def in_the_loop(compress, model, loader):
    """The optimizer and the schedule that the other two have by default."""
    ctrl, model = compress(model, importance={"where": "training", "epochs": EPOCHS, "seed": SEED})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2.5e-5)
    total = EPOCHS * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total)))
    for _ in range(EPOCHS):
        ctrl.scheduler.epoch_step()
        model.train()
        for batch in loader:
            optimizer.zero_grad()
            for _ in ctrl.policies():
                (loss_fn(model, batch) + ctrl.loss()).backward()
            optimizer.step()
            schedule.step()
            ctrl.scheduler.step()
    assert ctrl.policy is None
    ctrl.scheduler.epoch_step()
    return ctrl


def standalone(compress, model, loader):
    """On the model that NNCF made; the search is then called by hand."""
    ctrl, model = compress(model, importance={"where": "training", "epochs": EPOCHS, "seed": SEED})
    result = train_indicators(
        model, ctrl.quantizers, loader, loss_fn, candidate_bits=CANDIDATES, epochs=EPOCHS, seed=SEED
    )
    ctrl.search(result.indicators)
    return ctrl


@DEVICES
def test_all_three_give_the_same_indicators_and_the_same_policy(compress, residual, loader, device, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    residual.to(device)
    first, *others = (
        way(compress, copy.deepcopy(residual), loader) for way in (at_initialization, in_the_loop, standalone)
    )
    for other in others:
        assert other.indicators.weights == first.indicators.weights
        assert other.indicators.activations == first.indicators.activations
        assert other.policy.bits == first.policy.bits


def test_a_plain_model_without_nncf_gives_the_same_numbers(compress, loader):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 4, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(60, 4)),
    )
    plain = copy.deepcopy(model)
    images = next(iter(loader))[0]
    quantizers = insert_quantizers(plain, images, candidate_bits=CANDIDATES)
    ctrl, model = compress(model, importance={"where": "training"})
    # NNCF's range initialisation and ours see other samples; the start is not what is compared here.
    for target, source in zip(quantizers.all(), ctrl.quantizers.all(), strict=True):
        target.load_state_dict(source.state_dict())
    results = [
        train_indicators(network, own, loader, loss_fn, candidate_bits=CANDIDATES, seed=SEED).indicators
        for network, own in ((model, ctrl.quantizers), (plain, quantizers))
    ]
    with_nncf, without = (
        [list(values.values()) for values in (*result.weights.values(), *result.activations.values())]
        for result in results
    )
    assert [len(values) for values in with_nncf] == [len(values) for values in without]
    for one, other in zip(with_nncf, without, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
