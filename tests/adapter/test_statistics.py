"""``compression_ctrl.statistics()``: what it says in each stage, how it reads, and how fast it is."""

import re
import time

import pytest
from nncf.api.compression import CompressionStage
from nncf.common.utils.tensorboard import prepare_for_tensorboard

from llt_nncf.adapter.policy_report import PolicyReport
from llt_nncf.adapter.statistics import LltStatistics
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.indicators import QuantizerSet
from llt_nncf.quantizers import SwitchableQuantizer

BITS = (6, 5, 4, 3, 2)


def test_after_the_search_it_has_the_policy_the_budget_and_the_indicators(compress, residual, caplog):
    budget = {"bitops_as": {"weight_bits": 3, "activation_bits": 3}, "compression_ratio": 8.0}
    ctrl, _ = compress(residual, importance={"max_steps": 2}, budget=budget)
    ctrl.apply_policy(BitPolicy.uniform(ctrl.table, weight_bits=2, activation_bits=3))
    statistics = ctrl.statistics()
    assert statistics.quantization.stage == CompressionStage.FULLY_COMPRESSED
    # 7x9 images of 2 channels; halved: 4x5.
    macs = {"conv1": 63 * 8 * 18, "conv2": 20 * 12 * 72, "conv3": 20 * 12 * 36, "down": 20 * 12 * 8, "fc": 48}
    counts = {"conv1": 144, "conv2": 864, "conv3": 432, "down": 96, "fc": 48}
    fixed = ("conv1", "fc")
    at = {name: (8, 8) if name in fixed else (2, 3) for name in macs}
    bitops = sum(macs[name] * w * a for name, (w, a) in at.items())
    allowed = sum(macs[name] * (64 if name in fixed else 9) for name in macs)
    size = sum(counts[name] * w for name, (w, _) in at.items())
    ratio = 32 * sum(counts.values()) / size

    text = statistics.to_str()
    assert text.split("\nindicators")[0] in caplog.text  # apply_policy has said so too
    rows = {line.split()[0]: line.split() for line in text.splitlines()}
    for name, (w, a) in at.items():
        last = ["fixed"] if name in fixed else []
        assert rows[name] == [name, str(w), str(a), f"{macs[name] / 1e6:.3f}", str(counts[name]), *last]
    assert rows["bitops_as,"] == [
        "bitops_as,",
        "GBitOPs",
        f"{bitops / 1e9:.6g}",
        f"{allowed / 1e9:.6g}",
        f"{bitops / allowed:.1%}",
    ]
    assert rows["compression_ratio,"] == ["compression_ratio,", "x", f"{ratio:.6g}", "8", f"{8 / ratio:.1%}"]
    assert "indicators: step sizes after 2 steps of importance training, seed 0" in text

    scalars = prepare_for_tensorboard(statistics)
    expected = {
        "importance_steps": 2.0,
        "gbitops": bitops / 1e9,
        "weight_mib": size / 8 / 2**20,
        "compression_ratio": ratio,
        "average_weight_bits": size / sum(counts.values()),
        "average_activation_bits": sum(macs[name] * a for name, (_, a) in at.items()) / sum(macs.values()),
        "used/bitops_as": bitops / allowed,
        "used/compression_ratio": 8 / ratio,
    }
    assert scalars == {f"quantization/{name}": pytest.approx(value) for name, value in expected.items()}
    assert {type(value) for value in scalars.values()} == {float}


def test_before_the_search_it_says_what_is_going_on(compress, residual):
    ctrl, _ = compress(residual, importance={"where": "training", "epochs": 3})
    assert "0 steps so far.\n" in ctrl.statistics().to_str()
    ctrl.scheduler.epoch_step()
    for _ in range(2):
        list(ctrl.policies())
    full, quick = ctrl.statistics(), ctrl.statistics(quickly_collected_only=True)
    assert full.quantization.stage == CompressionStage.PARTIALLY_COMPRESSED
    told = (
        "importance indicators are being trained, 2 steps so far, in epoch 1 of 3.\nNo bit-widths are chosen yet; the "
    )
    assert told + "search comes when epoch 4 begins." in full.to_str()
    assert "step sizes as they are now" in full.to_str()
    assert quick.quantization.indicators is None
    assert "step sizes" not in quick.to_str()
    assert prepare_for_tensorboard(quick) == {"quantization/importance_steps": 2.0}


def test_the_spread_of_the_indicators_is_that_of_the_searched_layers():
    table = LayerTable(
        tuple(
            Layer(name, 1, 1, f"{name} input", bits, bits) for name, bits in (("a", (4, 2)), ("b", (4, 2)), ("c", (8,)))
        )
    )
    values = {"a": {4: 0.5, 2: 1.0}, "b": {4: 0.25, 2: 3.0}, "c": {8: 77.0}}
    indicators = IndicatorTable(table, values, {f"{name} input": row for name, row in values.items()}, "made by hand")
    quantizers = QuantizerSet(
        table,
        {n: SwitchableQuantizer((4, 2)) for n in "abc"},
        {f"{n} input": SwitchableQuantizer((4, 2)) for n in "abc"},
    )
    report = PolicyReport(BitPolicy({"a": (4, 4), "b": (2, 4), "c": (8, 8)}), table)
    text = LltStatistics(quantizers, report, indicators, importance_steps=1, epoch=0, importance_epochs=1).to_str()
    assert text.splitlines()[-4:] == [
        "weights           4       2   0.25   0.375      0.5",
        "weights           2       2      1       2        3",
        "activations       4       2   0.25   0.375      0.5",
        "activations       2       2      1       2        3",
    ]


@pytest.fixture
def deep():
    """160 layers with long names, the first and the last fixed."""
    names = [f"features.denseblock{i // 40 + 1}.denselayer{i % 40 + 1}.conv{i % 2 + 1}" for i in range(160)]
    rows = [
        Layer(name, 10**6, 10**5, f"{name} input", (8,) if i in (0, 159) else BITS, (8,) if i in (0, 159) else BITS)
        for i, name in enumerate(names)
    ]
    return LayerTable(tuple(rows))


@pytest.mark.parametrize(("columns", "most_lines"), [(80, 90), (160, 60)])
def test_160_layers_fit_the_width_and_a_few_screens(deep, columns, most_lines):
    policy = BitPolicy(
        {layer.name: layer.uniform_bits(BITS[i % 5], BITS[i % 3]) for i, layer in enumerate(deep.layers)}
    )
    lines = PolicyReport(policy, deep, Budget(average_weight_bits=4.2)).to_str(columns).splitlines()
    assert max(map(len, lines)) <= columns
    assert len(lines) <= most_lines
    # Downwards and then to the right, the bits are those of the layers in order; names keep their ends.
    cells = [re.findall(r"([^\s*]+)[ *]+(\d) +(\d)(?:\s|$)", line) for line in lines[1 : lines.index("* fixed")]]
    shown = [row[column] for column in range(len(cells[0])) for row in cells if column < len(row)]
    assert [(int(w), int(a)) for _, w, a in shown] == list(policy.bits.values())
    assert len({name for name, _, _ in shown}) == 160
    assert all(name[-16:] == layer.name[-16:] for (name, _, _), layer in zip(shown, deep.layers, strict=True))


def test_few_layers_with_very_long_names_fit_too(deep):
    few = LayerTable(deep.layers[:5])
    report = PolicyReport(BitPolicy.uniform(few, weight_bits=4, activation_bits=4), few)
    assert max(map(len, report.to_str(70).splitlines())) <= 70


def test_collecting_takes_less_than_a_millisecond_at_160_layers(deep):
    weights = {layer.name: SwitchableQuantizer(layer.weight_bits, is_weight=True) for layer in deep.layers}
    inputs = {layer.activation_group: SwitchableQuantizer(layer.activation_bits) for layer in deep.layers}
    report = PolicyReport(BitPolicy.uniform(deep, weight_bits=4, activation_bits=4), deep, Budget(gbitops=9.0))
    times = []
    for _ in range(30):
        begin = time.perf_counter()
        options = {"importance_steps": 1, "epoch": 0, "importance_epochs": 1}
        statistics = LltStatistics(QuantizerSet(deep, weights, inputs), report, None, **options)
        times.append(time.perf_counter() - begin)
    assert min(times) < 1e-3
    assert statistics.num_wq_per_bitwidth == {6: 158, 8: 2}
