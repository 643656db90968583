"""Every option of the training does what it says, against what the training does without it."""

import math

import pytest
import torch

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.errors import MissingInitArgsError
from llt_nncf.errors import TrainingDivergedError
from llt_nncf.indicators import train_indicators
from tests.indicators.tiny_net import CANDIDATES
from tests.indicators.tiny_net import NormedNet
from tests.indicators.tiny_net import TinyNet
from tests.indicators.tiny_net import batches
from tests.indicators.tiny_net import loss_fn
from tests.indicators.tiny_net import quantizer_set
from tests.indicators.tiny_net import started_net

PLAIN = {"momentum": 0.0, "weight_decay": 0.0}


def changes(data=None, **options) -> dict[str, torch.Tensor]:
    """What one step, or one for each batch of ``data``, changes in every parameter; in float64."""
    net = started_net().double()
    data = [(x.double(), y) for x, y in batches(1)] if data is None else data
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    train_indicators(net, quantizer_set(net), data, loss_fn, candidate_bits=CANDIDATES, **{**PLAIN, **options})
    return {name: value.detach() - before[name] for name, value in net.named_parameters()}


def is_step_size(name: str) -> bool:
    return name.endswith("raw_step_sizes")


def test_step_sizes_can_have_a_learning_rate_of_their_own():
    plain, changed = changes(), changes(step_size_learning_rate=0.03)
    for name, value in plain.items():
        torch.testing.assert_close(changed[name], value * (3 if is_step_size(name) else 1))


def test_step_sizes_can_have_a_weight_decay_of_their_own():
    start = dict(started_net().double().named_parameters())
    plain, changed = changes(weight_decay=0.1), changes(weight_decay=0.1, step_size_weight_decay=0.0)
    for name, value in plain.items():
        expected = value + 0.01 * 0.1 * start[name].detach() if is_step_size(name) else value
        torch.testing.assert_close(changed[name], expected)


def test_bit_widths_can_have_learning_rates_of_their_own():
    plain, changed = changes(), changes(learning_rate_per_bit={2: 0.5, 4: 0.0})
    factors = torch.tensor([0.0, 1.0, 0.5]).reshape(-1, 1)  # 4, 3 and 2 bits
    for name, value in plain.items():
        searched = is_step_size(name) and len(value) == 3
        torch.testing.assert_close(changed[name], value * factors.double() if searched else value)
    with pytest.raises(InvalidBitWidthError, match=r"\[7\] bits.*\[2, 3, 4, 8\]"):
        changes(learning_rate_per_bit={7: 0.5})


def test_gradients_are_clipped_by_value():
    changed = changes(gradient_clip_value=1e-3)
    reach = {name: float(value.abs().max()) for name, value in changed.items()}
    assert max(reach.values()) == pytest.approx(0.01 * 1e-3)
    assert float(changes()["fc.weight"].abs().max()) > 0.01 * 1e-3


def test_accumulated_batches_are_one_large_batch():
    x, y = batches(1)[0]
    x = x.double()
    halves = [(x[:4], y[:4]), (x[4:], y[4:])]
    whole, accumulated = changes([(x, y)]), changes(halves, accumulation_steps=2)
    for name, value in whole.items():
        torch.testing.assert_close(accumulated[name], value, rtol=1e-9, atol=1e-14)


def test_a_fraction_of_the_data_is_taken_from_the_beginning():
    net = started_net()
    seen = []
    data = batches(10)
    result = train_indicators(
        net,
        quantizer_set(net),
        data,
        lambda model, batch: seen.append(batch[0]) or loss_fn(model, batch),
        candidate_bits=CANDIDATES,
        data_fraction=0.25,
        epochs=2,
    )
    assert result.steps == 6
    assert {id(x) for x in seen} == {id(x) for x, _ in data[:3]}


def test_the_moving_average_of_the_indicators():
    net = started_net()
    quantizers = quantizer_set(net)
    history = [quantizers.read_indicators("").weights["conv"][3]]
    result = train_indicators(
        net,
        quantizers,
        batches(5),
        loss_fn,
        candidate_bits=CANDIDATES,
        indicator_ema=0.8,
        on_step=[lambda record: history.append(net.conv_weight.step_size(3).item())],
    )
    average = history[0]
    for value in history[1:]:
        average = 0.8 * average + 0.2 * value
    assert result.indicators.weights["conv"][3] == pytest.approx(average, rel=1e-5)
    assert result.indicators.weights["conv"][3] != pytest.approx(history[-1], rel=1e-5)


def test_training_ends_once_the_ranking_is_stable():
    records = []
    net = started_net()
    options = {"candidate_bits": CANDIDATES, "log_every": 1, "tau_window": 3, "on_step": [records.append]}
    result = train_indicators(net, quantizer_set(net), batches(12), loss_fn, stop_at_tau=1e-9, **options)
    assert result.stopped_stable
    assert result.steps == len(records) < 12
    assert [record.tau for record in records[:3]] == [None] * 3
    assert records[-1].tau >= 1e-9
    net = started_net()
    result = train_indicators(net, quantizer_set(net), batches(12), loss_fn, **{**options, "on_step": []})
    assert (result.steps, result.stopped_stable) == (12, False)


def test_bad_batches_can_be_skipped():
    data = batches(3)
    data[1] = (data[1][0] * math.nan, data[1][1])
    net, without = started_net(), started_net()
    records = []
    options = {"candidate_bits": CANDIDATES, **PLAIN, "max_steps": 3}
    result = train_indicators(
        net, quantizer_set(net), data, loss_fn, on_nonfinite="skip", on_step=[records.append], **options
    )
    assert (result.steps, result.skipped_steps) == (3, 1)
    assert "uniform-4" in records[1].skipped
    assert all(bool(torch.isfinite(value).all()) for value in net.state_dict().values())
    with pytest.raises(TrainingDivergedError, match="step 1"):
        train_indicators(without, quantizer_set(without), data, loss_fn, **options)


@pytest.mark.parametrize("stop_at_tau", [None, 0.5], ids=["to-the-end", "by-ranking"])
def test_a_training_that_skips_every_step_has_trained_nothing(tmp_path, stop_at_tau):
    spoilt = [(x * math.nan, y) for x, y in batches(5)]
    net = started_net()
    options = {"on_nonfinite": "skip", "stop_at_tau": stop_at_tau, "tau_window": 1, "log_every": 1}
    with pytest.raises(TrainingDivergedError, match=r"All 5 steps .*\"error\".*delete .*c.ckpt"):
        train_indicators(
            net,
            quantizer_set(net),
            spoilt,
            loss_fn,
            candidate_bits=CANDIDATES,
            checkpoint=tmp_path / "c.ckpt",
            **options,
        )


@pytest.mark.parametrize("fault", [KeyboardInterrupt, InvalidBitWidthError], ids=["interrupt", "wrong-option"])
def test_an_error_takes_the_copies_of_the_batch_norms_out_of_the_model(fault):
    def on_step(record):
        raise KeyboardInterrupt

    net = started_net(NormedNet)
    options = {"learning_rate_per_bit": {7: 0.5}} if fault is InvalidBitWidthError else {"on_step": [on_step]}
    with pytest.raises(fault):
        train_indicators(
            net, quantizer_set(net), batches(2), loss_fn, candidate_bits=CANDIDATES, per_bit_batch_norm=True, **options
        )
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    before = net.norm.running_mean.clone()
    net.train()(batches(1)[0][0])
    assert not torch.equal(net.norm.running_mean, before)


@pytest.mark.parametrize("per_bit", [False, True], ids=["one-batch-norm", "per-bit"])
def test_a_skipped_batch_leaves_no_trace_in_the_batch_norms(per_bit):
    data = batches(3)
    spoilt = [*data[:1], (data[1][0] * math.nan, data[1][1]), *data[1:]]
    options = {"candidate_bits": CANDIDATES, **PLAIN, "per_bit_batch_norm": per_bit, "sampled_policies": 0}
    states = []
    for rows, steps in ((data[:1], 1), (spoilt[:2], 2)):
        net = started_net(NormedNet)
        result = train_indicators(net, quantizer_set(net), rows, loss_fn, on_nonfinite="skip", **options)
        assert result.steps == steps
        states.append({name: value for name, value in net.state_dict().items() if name.startswith("norm.running")})
        states[-1]["batches"] = net.norm.num_batches_tracked
    # The rate of the only step is the same in both: the cosine starts at 1.
    torch.testing.assert_close(states[1], states[0], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("kind", ["in_place", "teacher"])
def test_distillation_changes_what_is_learned(kind):
    teacher = TinyNet().double() if kind == "teacher" else None
    plain, changed = changes(), changes(distillation=kind, teacher=teacher)
    assert not torch.allclose(plain["fc.weight"], changed["fc.weight"])


@pytest.mark.parametrize(("fraction", "steps"), [(0.07, 7), (0.14, 14), (0.55, 55), (0.001, 1)])
def test_a_fraction_of_the_data_is_not_rounded_up_by_a_last_bit(fraction, steps):
    net = started_net()
    options = {"candidate_bits": CANDIDATES, "data_fraction": fraction, "sampled_policies": 0}
    assert train_indicators(net, quantizer_set(net), batches(1) * 100, loss_fn, **options).steps == steps


def test_a_fraction_of_a_loader_without_length_is_refused():
    net = started_net()
    with pytest.raises(MissingInitArgsError, match="data_fraction=0.5 needs a data loader that has a length"):
        train_indicators(
            net, quantizer_set(net), iter(batches(4)), loss_fn, candidate_bits=CANDIDATES, data_fraction=0.5
        )
