"""Per-bit batch norms against plain ones: one ``nn.BatchNorm2d`` for each layer and bit-width, picked by hand."""

import copy
import io
from collections.abc import Sequence

import pytest
import torch
from torch import nn
from torch.nn import functional

from llt_nncf.functional import fake_quantize
from llt_nncf.functional import lsq_step_size
from llt_nncf.quantizers import PerBitBatchNorm
from llt_nncf.quantizers import SwitchableQuantizer

BITS = (6, 4, 2)
POLICIES = [(6, 6), (4, 4), (2, 2), (2, 6), (6, 4)]  # bits of the first and the second convolution
KINDS = [
    {},
    {"affine": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False},
    {"momentum": None},
]


class Net(nn.Module):
    """A batch norm of the input, two searched convolutions and a fixed one, each with a batch norm behind it."""

    def __init__(self, **kind):
        super().__init__()
        # Not in the order of execution.
        self.norms = nn.ModuleDict({name: nn.BatchNorm2d(4, **kind) for name in ("fixed", "second", "input", "first")})
        self.convs = nn.ModuleDict({name: nn.Conv2d(4, 4, 3, bias=False) for name in ("second", "fixed", "first")})
        self.quantizers = nn.ModuleDict(
            {
                "first": SwitchableQuantizer(BITS, is_weight=True),
                "second": SwitchableQuantizer((*BITS, 3), is_weight=True),
                "fixed": SwitchableQuantizer((8,), is_weight=True),
            }
        )
        for name, quantizer in self.quantizers.items():
            for bits in quantizer.candidate_bits:
                mean_abs = self.convs[name].weight.detach().abs().mean()
                quantizer.set_step_size(bits, lsq_step_size(mean_abs, num_bits=bits, signed=True))
            quantizer.requires_grad_(False)
        for norm in self.norms.values():
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias, 0.0, 0.3)

    def forward(self, x):
        x = self.norms["input"](x)
        for name in ("first", "second", "fixed"):
            weight = self.quantizers[name](self.convs[name].weight)
            x = functional.relu(self.norms[name](functional.conv2d(x, weight)))
        return x.mean((2, 3))

    def switch(self, policy: Sequence[int]) -> None:
        self.quantizers["first"].num_bits, self.quantizers["second"].num_bits = policy


class Plain:
    """The same function, every batch norm of every bit-width a module of its own."""

    def __init__(self, net: Net):
        self.weights = {name: nn.Parameter(conv.weight.detach().clone()) for name, conv in net.convs.items()}
        self.step_sizes = {
            name: {bits: quantizer.step_size(bits).detach() for bits in quantizer.candidate_bits}
            for name, quantizer in net.quantizers.items()
        }
        self.norms = {(name, bits): copy.deepcopy(net.norms[name]) for name in ("first", "second") for bits in BITS}
        self.norms |= {(name, 8): copy.deepcopy(net.norms[name]) for name in ("input", "fixed")}

    def parameters(self):
        return [*self.weights.values(), *(p for norm in self.norms.values() for p in norm.parameters())]

    def __call__(self, x, policy):
        x = self.norms["input", 8](x)
        for name, bits in zip(("first", "second", "fixed"), (*policy, 8), strict=True):
            step_size = self.step_sizes[name][bits]
            options = {"num_bits": bits, "signed": True, "narrow_range": bits == 8, "grad_scale": 1.0}
            weight = fake_quantize(self.weights[name], step_size, **options)
            x = functional.relu(self.norms[name, bits](functional.conv2d(x, weight)))
        return x.mean((2, 3))


def make(**kind) -> tuple[Net, PerBitBatchNorm]:
    torch.manual_seed(0)
    net = Net(**kind).double()
    return net, PerBitBatchNorm(net, net.quantizers.values())


def batches(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 6, 4, 9, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def optimizer_of(*parameters) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01)


def train(net: Net, optimizer: torch.optim.Optimizer, data: torch.Tensor, policies=POLICIES) -> None:
    for x in data:
        optimizer.zero_grad()
        for policy in policies:
            net.switch(policy)
            (net(x) - 1).square().sum().backward()
        optimizer.step()


def copy_of(bank: PerBitBatchNorm, net: Net, name: str, bits: int) -> dict[str, torch.Tensor]:
    index = list(net.norms).index(name)
    return bank.copies[index][str(bits)].state_dict()


def hooks_of(net: Net) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def assert_same(states: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], **tolerance) -> None:
    assert states.keys() == expected.keys()
    for name, value in states.items():
        torch.testing.assert_close(value, expected[name], **tolerance)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_trajectory_equals_plain_batch_norms_one_for_each_layer_and_bit_width(kind):
    net, bank = make(**kind)
    plain = Plain(net)
    reference = optimizer_of(*plain.parameters())
    data = batches(6)
    with bank:
        train(net, optimizer_of(*net.parameters(), *bank.parameters()), data)
        for x in data:
            reference.zero_grad()
            for policy in POLICIES:
                (plain(x, policy) - 1).square().sum().backward()
            reference.step()
        close = {"rtol": 1e-9, "atol": 1e-12}
        for name in ("first", "second"):
            for bits in BITS:
                assert_same(copy_of(bank, net, name, bits), plain.norms[name, bits].state_dict(), **close)
        for name in ("input", "fixed"):
            assert_same(net.norms[name].state_dict(), plain.norms[name, 8].state_dict(), **close)
        for name, weight in plain.weights.items():
            torch.testing.assert_close(net.convs[name].weight, weight, **close)
        net.eval()
        for norm in plain.norms.values():
            norm.eval()
        for policy in POLICIES:
            net.switch(policy)
            torch.testing.assert_close(net(data[0]), plain(data[0], policy), **close)


def test_statistics_and_parameters_end_up_different_for_each_bit_width():
    net, bank = make()
    with bank:
        train(net, optimizer_of(*net.parameters(), *bank.parameters()), batches(3))
    for entry in ("weight", "bias", "running_mean", "running_var"):
        six, four, two = (copy_of(bank, net, "first", bits)[entry] for bits in BITS)
        assert not torch.allclose(six, four, rtol=1e-3)
        assert not torch.allclose(four, two, rtol=1e-3)


def test_outside_the_context_nothing_is_changed():
    net, bank = make()
    alone = copy.deepcopy(net)
    before = copy.deepcopy(bank.state_dict())
    assert hooks_of(net) == 0
    train(net, optimizer_of(*net.parameters(), *bank.parameters()), batches(2))
    train(alone, optimizer_of(*alone.parameters()), batches(2))
    assert_same(net.state_dict(), alone.state_dict(), rtol=0, atol=0)
    assert_same(bank.state_dict(), before, rtol=0, atol=0)


def test_inside_the_context_the_model_shows_its_originals_only():
    net, bank = make()
    parameters, before = list(net.parameters()), copy.deepcopy(net.state_dict())
    with bank:
        net.switch((2, 4))
        net(batches(1)[0])
        assert [id(p) for p in net.parameters()] == [id(p) for p in parameters]
        switched = ("norms.first", "norms.second")
        now = net.state_dict()
        assert now.keys() == before.keys()
        assert all(torch.equal(now[key], before[key]) for key in now if key.startswith(switched))
    assert not {id(p) for p in bank.parameters()} & {id(p) for p in parameters}
    # 4 batch norms, the 4 bit-widths that occur, 2 parameters.
    assert len(list(bank.parameters())) == 4 * 4 * 2


def test_a_deep_copy_taken_inside_the_context_holds_the_originals_and_leaves_the_copies_alone():
    net, bank = make()
    with bank:
        train(net, optimizer_of(*net.parameters(), *bank.parameters()), batches(2))
        twin = copy.deepcopy(net)
        assert_same(twin.state_dict(), net.state_dict(), rtol=0, atol=0)
        before = copy.deepcopy(bank.state_dict())
        net.eval()
        expected = net(batches(1)[0])
        torch.testing.assert_close(twin.eval()(batches(1)[0]), expected)
        train(twin.train(), optimizer_of(*twin.parameters()), batches(2))
        assert_same(bank.state_dict(), before, rtol=0, atol=0)
        torch.testing.assert_close(net(batches(1)[0]), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_leaving_writes_the_copy_of_the_highest_candidate_into_the_original(kind):
    net, bank = make(**kind)
    with bank:
        train(net, optimizer_of(*net.parameters(), *bank.parameters()), batches(2))
        fixed = copy.deepcopy(net.norms["fixed"].state_dict())
    assert hooks_of(net) == 0
    for name in ("first", "second"):
        assert_same(net.norms[name].state_dict(), copy_of(bank, net, name, 6), rtol=0, atol=0)
    # Behind a fixed layer the original itself was trained, and none of its copies.
    assert_same(net.norms["fixed"].state_dict(), fixed, rtol=0, atol=0)
    x = batches(1)[0]
    net.eval().switch((6, 6))
    outside = net(x)
    with bank:
        assert torch.equal(net(x), outside)
    assert all(name in norm.__dict__["_parameters"] for norm in net.norms.values() for name in ("weight", "bias"))


def test_copies_that_no_pass_of_a_step_uses_get_no_gradient():
    net, bank = make()
    with bank:
        net.switch((4, 2))
        net(batches(1)[0]).sum().backward()
    reached = {name for name, parameter in bank.named_parameters() if parameter.grad is not None}
    # The second and the last entry of ``Net.norms`` are those behind the searched layers.
    assert reached == {f"copies.{norm}.{entry}" for norm in ("3.4", "1.2") for entry in ("weight", "bias")}
    assert net.norms["first"].weight.grad is None
    assert net.norms["fixed"].weight.grad is not None


def test_what_ran_before_in_another_forward_pass_does_not_count():
    net, bank = make()
    with bank:
        net.switch((2, 2))
        net.quantizers["fixed"] = nn.Identity()  # the last quantizer that runs is now the second's
        for x in batches(3):
            net(x)
    assert copy_of(bank, net, "input", 2)["num_batches_tracked"] == 0
    assert copy_of(bank, net, "first", 2)["num_batches_tracked"] == 3
    assert net.norms["input"].num_batches_tracked == 3


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_been_interrupted(kind):
    data = batches(4)
    net, bank = make(**kind)
    with bank:
        train(net, optimizer_of(*net.parameters(), *bank.parameters()), data[:2])
        file = io.BytesIO()
        torch.save({"net": net.state_dict(), "bank": bank.state_dict()}, file)
        train(net, optimizer_of(*net.parameters(), *bank.parameters()), data[2:])
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed, resumed_bank = make(**kind)
    for parameter in resumed_bank.parameters():
        nn.init.zeros_(parameter)
    resumed.load_state_dict(saved["net"])
    resumed_bank.load_state_dict(saved["bank"])
    with resumed_bank:
        train(resumed, optimizer_of(*resumed.parameters(), *resumed_bank.parameters()), data[2:])
    assert_same(resumed.state_dict(), net.state_dict(), rtol=0, atol=0)
    assert_same(resumed_bank.state_dict(), bank.state_dict(), rtol=0, atol=0)


def test_a_bank_that_is_resumed_at_the_end_still_writes_back():
    net, bank = make()
    with bank:
        train(net, optimizer_of(*net.parameters(), *bank.parameters()), batches(1))
        saved = copy.deepcopy((net.state_dict(), bank.state_dict()))
    resumed, resumed_bank = make()
    resumed.load_state_dict(saved[0])
    resumed_bank.load_state_dict(saved[1])
    with resumed_bank:
        pass
    assert_same(resumed.state_dict(), net.state_dict(), rtol=0, atol=0)


def test_a_forward_pass_that_fails_leaves_the_originals_in_place():
    net, bank = make()
    weight = net.norms["first"].weight
    net.norms["first"]._check_input_dim = lambda x: 1 / 0
    with bank:
        with pytest.raises(ZeroDivisionError):
            net(batches(1)[0])
        assert net.norms["first"].weight is weight


def test_batch_norms_move_with_the_model_while_copies_are_in_use():
    net, bank = make()
    with bank:
        net.float()
        bank.float()
        assert net(batches(1)[0].float()).dtype == torch.float32
        assert net.norms["first"].weight.dtype == torch.float32
