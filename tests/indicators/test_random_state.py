"""The generators that a checkpoint brings back, on machines with other GPUs than those that it was saved on."""

import pytest
import torch

from llt_nncf.indicators.random_state import random_state
from llt_nncf.indicators.random_state import set_random_state


class Gpus:
    """The generators of some GPUs, which this machine need not have; an index beyond them is an error, as there."""

    def __init__(self, monkeypatch, states):
        self.states = list(states)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(self.states))
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: self.states[device.index])
        monkeypatch.setattr(torch.cuda, "set_rng_state", self._set)

    def _set(self, state, device):
        self.states[device.index] = state


@pytest.mark.parametrize(("own", "now"), [(2, 0), (0, 2)], ids=["on-fewer-gpus", "on-another"])
def test_the_generator_of_the_models_gpu_goes_with_it(monkeypatch, own, now):
    Gpus(monkeypatch, ["first", "second", "third"])
    saved = random_state(None, torch.device("cuda", own))
    gpus = Gpus(monkeypatch, ["new"] * (now + 1))
    set_random_state(saved, None, torch.device("cuda", now))
    assert gpus.states == ["new"] * now + [("first", "second", "third")[own]]


def test_what_was_saved_on_a_gpu_is_resumed_on_a_cpu(monkeypatch):
    Gpus(monkeypatch, ["first"])
    saved = random_state(None, torch.device("cuda", 0))
    expected = torch.rand(3)
    Gpus(monkeypatch, [])
    set_random_state(saved, None, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.cuda
def test_a_gpu_draws_again_what_it_drew():
    device = torch.zeros(1, device="cuda").device
    saved = random_state(None, device)
    expected = torch.rand(3, device=device)
    set_random_state(saved, None, device)
    assert torch.equal(torch.rand(3, device=device), expected)
