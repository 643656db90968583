"""Joint training against a plain loop, written here with nothing but torch's autograd."""

import math
import random

import pytest
import torch
from torch import nn
from torch.nn import functional

from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import InvalidTensorError
from llt_nncf.errors import TrainingDivergedError
from llt_nncf.indicators import QuantizerSet
from llt_nncf.indicators import policy_rounds
from llt_nncf.indicators import start_step_sizes
from llt_nncf.indicators import train_indicators
from llt_nncf.quantizers import SwitchableQuantizer

CANDIDATES = (4, 3, 2)


class TinyNet(nn.Module):
    """Two searched layers between which a ReLU stands, and a fixed one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        self.conv_weight = SwitchableQuantizer(CANDIDATES, is_weight=True)
        self.conv_input = SwitchableQuantizer(CANDIDATES)
        self.fc_weight = SwitchableQuantizer((8,), is_weight=True)
        self.fc_input = SwitchableQuantizer(CANDIDATES, signed=False)

    def forward(self, x):
        x = functional.conv2d(self.conv_input(x), self.conv_weight(self.conv.weight), self.conv.bias, padding=1)
        x = self.fc_input(functional.relu(x).mean((2, 3)))
        return functional.linear(x, self.fc_weight(self.fc.weight), self.fc.bias)


def quantizer_set(net: TinyNet) -> QuantizerSet:
    layers = (
        Layer("conv", 100, 72, "conv_input", CANDIDATES, CANDIDATES),
        Layer("fc", 12, 12, "fc_input", (8,), CANDIDATES),
    )
    weights = {"conv": net.conv_weight, "fc": net.fc_weight}
    return QuantizerSet(LayerTable(layers), weights, {"conv_input": net.conv_input, "fc_input": net.fc_input})


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 8, 2, 5, 5, generator=generator)
    return [(x, torch.randint(3, (8,), generator=generator)) for x in images]


def loss_fn(model: nn.Module, batch) -> torch.Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def started_net() -> TinyNet:
    torch.manual_seed(0)
    net = TinyNet()
    start_step_sizes(net, quantizer_set(net), batches(2), lambda model, batch: model(batch[0]))
    # Away from the point where the largest weight lies on the end of its range, and a last bit decides its gradient.
    net.fc_weight.set_step_size(8, 1.05 * net.fc_weight.step_size(8))
    return net


def plain_fake_quantize(x, step, bits, signed, narrow):
    """LSQ by detaching: round passes gradients through, clamp cuts them, the step's gradient is scaled."""
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    scale = 1.0 / math.sqrt(x.numel() * high)
    step = (step - step * scale).detach() + step * scale
    v = torch.clamp(x / step, low, high)
    return ((v.round() - v).detach() + v) * step


def plain_loop(
    net: TinyNet, data, *, steps: int, lr: float, momentum: float, weight_decay: float, sampled: int, seed: int
):
    """Algorithm 1 and SGD, written out; returns the parameters by name."""
    p = {name: value.detach().clone().requires_grad_() for name, value in net.named_parameters()}
    quantizers = {"conv_weight": (True, 0), "fc_weight": (True, 1), "conv_input": (True, 0), "fc_input": (False, 0)}
    candidates = {name: (8,) if name == "fc_weight" else CANDIDATES for name in quantizers}
    velocity = {}
    for step in range(steps):
        generator = random.Random(f"{seed}/{step}")
        policies = [dict.fromkeys(quantizers, bits) for bits in CANDIDATES]
        policies += [{name: generator.choice(candidates[name]) for name in quantizers} for _ in range(sampled)]
        total = 0.0
        for policy in policies:

            def quantize(name, x, policy=policy):
                signed, is_fixed = quantizers[name]
                bits = 8 if is_fixed else policy[name]
                step_size = p[f"{name}.raw_step_sizes"][candidates[name].index(bits)].abs() + 1e-8
                return plain_fake_quantize(x, step_size, bits, signed, narrow=int(bool(is_fixed)))

            x, y = data[step]
            x = functional.conv2d(
                quantize("conv_input", x), quantize("conv_weight", p["conv.weight"]), p["conv.bias"], padding=1
            )
            x = quantize("fc_input", functional.relu(x).mean((2, 3)))
            x = functional.linear(x, quantize("fc_weight", p["fc.weight"]), p["fc.bias"])
            total = total + functional.cross_entropy(x, y)
        gradients = torch.autograd.grad(total, list(p.values()))
        rate = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.no_grad():
            for (name, value), gradient in zip(p.items(), gradients, strict=True):
                gradient = gradient + weight_decay * value
                velocity[name] = momentum * velocity[name] + gradient if name in velocity else gradient
                value -= rate * velocity[name]
    return p


@pytest.mark.parametrize("sampled", [0, 1, 2])
def test_twenty_steps_equal_a_plain_loop(sampled):
    # In float64: in float32 two ways to add up gradients soon round some activation differently.
    net = started_net().double()
    data = [(x.double(), y) for x, y in batches(20)]
    expected = plain_loop(net, data, steps=20, lr=0.01, momentum=0.9, weight_decay=1e-3, sampled=sampled, seed=3)
    result = train_indicators(
        net,
        quantizer_set(net),
        data,
        loss_fn,
        candidate_bits=CANDIDATES,
        learning_rate=0.01,
        weight_decay=1e-3,
        sampled_policies=sampled,
        seed=3,
    )
    assert result.steps == 20
    for name, value in net.named_parameters():
        torch.testing.assert_close(
            value, expected[name], rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_mean_aggregation_is_the_sum_at_a_smaller_rate():
    sums, means = started_net(), started_net()
    data = batches(1)
    options = {"candidate_bits": CANDIDATES, "momentum": 0.0, "weight_decay": 0.0}
    train_indicators(sums, quantizer_set(sums), data, loss_fn, learning_rate=0.01, **options)
    train_indicators(means, quantizer_set(means), data, loss_fn, learning_rate=0.04, aggregation="mean", **options)
    for one, other in zip(sums.parameters(), means.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_training_moves_the_step_sizes_of_every_candidate():
    net = started_net()
    before = net.conv_input.raw_step_sizes.detach().clone()
    train_indicators(net, quantizer_set(net), batches(3), loss_fn, candidate_bits=CANDIDATES)
    assert bool((net.conv_input.raw_step_sizes != before).all())


def test_max_steps_ends_training_early():
    net = started_net()
    result = train_indicators(
        net, quantizer_set(net), batches(4), loss_fn, candidate_bits=CANDIDATES, epochs=3, max_steps=5
    )
    assert result.steps == 5


def test_a_loss_that_is_not_finite_names_step_and_policy():
    net = started_net()
    with pytest.raises(TrainingDivergedError, match="step 0.*uniform-4.*nan"):
        train_indicators(
            net, quantizer_set(net), batches(1), lambda m, b: loss_fn(m, b) * math.nan, candidate_bits=CANDIDATES
        )


def test_step_sizes_that_the_last_update_broke_are_noticed():
    net = started_net()
    net.conv_input.raw_step_sizes.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(TrainingDivergedError, match="after step 1"):
        train_indicators(net, quantizer_set(net), batches(1), loss_fn, candidate_bits=CANDIDATES)


def test_rounds_are_all_uniform_policies_and_then_seeded_samples():
    net = started_net()
    quantizers = quantizer_set(net)

    def rounds(step, seed=0):
        names, bits = [], []
        for name in policy_rounds(quantizers, CANDIDATES, sampled_policies=8, seed=seed, step=step):
            names.append(name)
            bits.append(tuple(quantizer.num_bits for quantizer in quantizers.all()))
        return names, bits

    names, bits = rounds(0)
    assert names == ["uniform-4", "uniform-3", "uniform-2", *(f"sampled-{i}" for i in range(8))]
    assert bits[:3] == [(4, 8, 4, 4), (3, 8, 3, 3), (2, 8, 2, 2)]
    assert rounds(0) == (names, bits)
    assert rounds(1) != (names, bits)
    assert rounds(0, seed=1) != (names, bits)
    assert len(set(bits[3:])) > 3
    assert all(row[1] == 8 for row in bits)


def test_start_values_are_lsqs_below_eight_bits_and_cover_the_range_at_eight():
    torch.manual_seed(0)
    net = TinyNet()
    data = batches(2)
    start_step_sizes(net, quantizer_set(net), data, lambda model, batch: model(batch[0]))
    mean_abs = torch.stack([x.abs().mean() for x, _ in data]).mean()
    for bits in CANDIDATES:
        qmax = 2 ** (bits - 1) - 1
        torch.testing.assert_close(net.conv_input.step_size(bits), (2 * mean_abs / qmax**0.5).reshape(1))
        weight = net.conv.weight.detach().abs().mean()
        torch.testing.assert_close(net.conv_weight.step_size(bits), (2 * weight / qmax**0.5).reshape(1))
    torch.testing.assert_close(net.fc_weight.step_size(8), net.fc.weight.detach().abs().max().reshape(1) / 127)


def test_a_range_that_was_set_is_kept_at_eight_bits():
    net = TinyNet()
    net.fc_weight.set_step_size(8, torch.tensor(0.5))
    net.fc_weight.has_range = True
    start_step_sizes(net, quantizer_set(net), batches(1), lambda model, batch: model(batch[0]))
    torch.testing.assert_close(net.fc_weight.step_size(8), torch.full((1,), 0.5))


def test_data_with_nan_names_the_quantizer_that_sees_it():
    net = TinyNet()
    with pytest.raises(InvalidTensorError, match="'conv_input' sees NaN"):
        start_step_sizes(net, quantizer_set(net), [torch.full((1, 2, 5, 5), math.nan)], lambda model, x: model(x))


def test_each_module_keeps_its_own_training_mode():
    net = TinyNet().train()
    net.fc.eval()
    start_step_sizes(net, quantizer_set(net), batches(1), lambda model, batch: model(batch[0]))
    assert (net.training, net.fc.training, net.conv.training) == (True, False, True)


def test_indicators_are_the_step_sizes_joined_by_name(tmp_path):
    net = started_net()
    table = quantizer_set(net).read_indicators("test")
    assert table.weights["conv"][2] == pytest.approx(net.conv_weight.step_size(2).item())
    assert table.activations["fc_input"][3] == pytest.approx(net.fc_input.step_size(3).item())
    table.save(tmp_path / "indicators.json")
    assert type(table).load(tmp_path / "indicators.json") == table
