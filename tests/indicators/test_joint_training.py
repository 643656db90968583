"""Joint training against a plain loop, written here with nothing but torch's autograd."""

import math
import random
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import InvalidTensorError
from llt_nncf.errors import MissingInitArgsError
from llt_nncf.errors import TrainingDivergedError
from llt_nncf.indicators import policy_rounds
from llt_nncf.indicators import start_step_sizes
from llt_nncf.indicators import train_indicators
from llt_nncf.quantizers import SwitchableQuantizer
from tests.devices import DEVICES
from tests.indicators.tiny_net import CANDIDATES
from tests.indicators.tiny_net import NormedNet
from tests.indicators.tiny_net import TinyNet
from tests.indicators.tiny_net import batches
from tests.indicators.tiny_net import loss_fn
from tests.indicators.tiny_net import quantizer_set
from tests.indicators.tiny_net import started_net


def plain_fake_quantize(x, step, bits, signed, narrow, samples=1):
    """LSQ by detaching: round passes gradients through, clamp cuts them, that of the step is scaled, more at 8 bits."""
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    scale = (0.1 if bits == 8 else 1.0) / math.sqrt(x.numel() / samples * high)
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
                samples = len(x) if name.endswith("input") else 1
                return plain_fake_quantize(x, step_size, bits, signed, int(bool(is_fixed)), samples)

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


def test_a_tied_policy_gives_weights_the_bits_of_their_input():
    net = started_net()
    net.fc_weight = SwitchableQuantizer(CANDIDATES, is_weight=True)
    layers = tuple(replace(layer, weight_bits=CANDIDATES) for layer in quantizer_set(net).table.layers)
    quantizers = replace(quantizer_set(net), table=LayerTable(layers))
    seen = set()
    for step in range(20):
        options = {"sampled_policies": 1, "seed": 0, "step": step}
        for tie in (True, False):
            *_, name = policy_rounds(quantizers, CANDIDATES, **options, tie_weight_activation=tie)
            assert name == "sampled-0"
            seen.add(
                (
                    tie,
                    net.conv_weight.num_bits == net.conv_input.num_bits,
                    net.fc_weight.num_bits == net.fc_input.num_bits,
                )
            )
    assert {row for row in seen if row[0]} == {(True, True, True)}
    assert len(seen) > 3


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


@DEVICES
@pytest.mark.parametrize(
    "options",
    [
        {"distillation": "in_place", "indicator_ema": 0.5},
        {"per_bit_batch_norm": True, "gradient_clip_value": 0.01, "learning_rate_per_bit": {2: 0.5}},
    ],
    ids=["distillation", "batch-norms"],
)
def test_steps_give_the_same_numbers_on_every_device(device, options):
    indicators = []
    for target in ("cpu", device):
        net = started_net(NormedNet).double().to(target)
        data = [(x.double(), y) for x, y in batches(5)]
        trained = train_indicators(net, quantizer_set(net), data, loss_fn, candidate_bits=CANDIDATES, **options)
        indicators.append(trained.indicators)
    assert indicators[1].weights["conv"] == pytest.approx(indicators[0].weights["conv"], rel=1e-9)
    assert indicators[1].activations["fc_input"] == pytest.approx(indicators[0].activations["fc_input"], rel=1e-9)


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


def test_a_loss_may_have_one_element_in_any_shape_and_nothing_else():
    nets = [started_net() for _ in range(2)]
    for net, shape in zip(nets, [(), (1, 1)], strict=True):
        train_indicators(
            net,
            quantizer_set(net),
            batches(2),
            lambda model, batch, shape=shape: loss_fn(model, batch).reshape(shape),
            candidate_bits=CANDIDATES,
        )
    assert all(torch.equal(one, other) for one, other in zip(*(net.parameters() for net in nets), strict=True))
    with pytest.raises(InvalidTensorError, match=r"a tensor of shape \(8, 3\), and must be .* one element"):
        train_indicators(
            nets[0], quantizer_set(nets[0]), batches(1), lambda model, batch: model(batch[0]), candidate_bits=CANDIDATES
        )


@pytest.mark.parametrize("loader", [[], iter(batches(2))], ids=["empty", "only-once"])
def test_an_epoch_without_batches_is_an_error(loader):
    net = started_net()
    with pytest.raises(MissingInitArgsError, match=r"no batch in epoch [12] .*a DataLoader or list"):
        train_indicators(net, quantizer_set(net), loader, loss_fn, candidate_bits=CANDIDATES, epochs=3)


def test_a_loss_that_is_not_finite_names_step_and_policy():
    net = started_net()
    with pytest.raises(TrainingDivergedError, match="step 0.*uniform-4.*nan"):
        train_indicators(
            net, quantizer_set(net), batches(1), lambda m, b: loss_fn(m, b) * math.nan, candidate_bits=CANDIDATES
        )


def test_a_gradient_that_is_not_finite_names_its_parameter_and_changes_nothing():
    net = started_net()
    net.conv_input.raw_step_sizes.register_hook(lambda gradient: gradient * math.nan)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(TrainingDivergedError, match="step 0: all losses are finite.*conv_input.raw_step_sizes"):
        train_indicators(net, quantizer_set(net), batches(1), loss_fn, candidate_bits=CANDIDATES)
    for name in ("conv.weight", "conv_input.raw_step_sizes"):
        assert torch.equal(net.state_dict()[name], before[name])


def test_a_layer_that_makes_nan_is_named():
    net = started_net()
    with torch.no_grad():
        net.conv.bias[0] = math.nan
    with pytest.raises(TrainingDivergedError, match="first seen by the quantizer of 'fc_input'"):
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
    start_step_sizes(net, quantizer_set(net), data, lambda model, batch: model(batch[0]), start_values="lsq")
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
