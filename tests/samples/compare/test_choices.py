"""How the comparison chooses bits: uniform policies, controls, and the plan that names them."""

import json
from pathlib import Path

import pytest

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ConfigError

ROOT = Path(__file__).parents[3]
BITS = (6, 5, 4, 3, 2)


def layers(bits: tuple[int, ...] = BITS) -> LayerTable:
    """Four layers of 100 MACs and 10 weights, of which the first is fixed."""
    first = Layer("first", 100, 10, "a0", (8,), (8,))
    return LayerTable((first, *(Layer(f"l{i}", 100, 10, f"a{i}", bits, bits) for i in (1, 2, 3))))


def budget(plan, **limits):
    return plan.TargetBudget("made up", limits)


def test_the_uniform_policy_of_a_budget_is_the_dearest_that_meets_it(sample):
    choices, plan = sample("choices"), sample("plan")
    table = layers((8, 7, 6, 5, 4, 3, 2))
    w3a4 = {"weight_bits": 3, "activation_bits": 4}
    # 12 bits x bits per MAC: 2x6, 3x4, 4x3 and 6x2 cost the same.
    chosen = choices.choose_uniform(table, budget(plan, bitops_as=w3a4))
    assert chosen.bits == {"first": (8, 8), "l1": (3, 4), "l2": (3, 4), "l3": (3, 4)}
    # 40 weights: 10 at 8 bits and 30 at 3 are 170 bits, 7.53 times fewer than 1280 in 32 bits; at 2 bits 9.14 times.
    chosen = choices.choose_uniform(table, budget(plan, bitops_as=w3a4, compression_ratio=7.6))
    assert chosen.bits["l1"] == (2, 6)
    only_weights = plan.TargetBudget("made up", {"average_weight_bits": 4.25}, weight_only=True)
    assert choices.choose_uniform(table, only_weights).bits["l1"] == (3, 8)


@pytest.fixture
def indicators() -> IndicatorTable:
    """The larger the layer's number, the larger its indicators."""
    values = {f"l{i}": {b: i * 2.0 ** (6 - b) for b in BITS} for i in (1, 2, 3)}
    return IndicatorTable(layers(), {"first": {8: 0.5}, **values}, {f"a{name[1]}": row for name, row in values.items()})


def test_reversed_indicators_trade_the_largest_for_the_smallest(sample, indicators):
    found = sample("choices").rearrange(indicators, "reversed", seed=0)
    for rows in (found.weights, found.activations):
        assert [values[6] for values in rows.values() if len(values) > 1] == [3, 2, 1]
    assert found.weights["first"] == {8: 0.5}


def test_shuffled_indicators_are_the_same_ones_elsewhere_and_depend_on_the_seed(sample, indicators):
    rearrange = sample("choices").rearrange
    orders = {
        tuple(values[6] for values in rearrange(indicators, "shuffled", seed).weights.values() if len(values) > 1)
        for seed in range(40)
    }
    # All six orders of three layers; one of them is missing after 40 draws with a probability of 6 x (5/6)**40 = 0.4 %.
    assert len(orders) == 6
    assert rearrange(indicators, "shuffled", 3) == rearrange(indicators, "shuffled", 3)


@pytest.fixture
def loaded(sample, tmp_path):
    """Loads the config of the repository after an edit."""

    def loaded(edit):
        content = json.loads((ROOT / "configs" / "compare" / "resnet20_cifar10.json").read_text("utf-8"))
        edit(content)
        (tmp_path / "plan.json").write_text(json.dumps(content), "utf-8")
        return sample("plan").Plan.load(tmp_path / "plan.json")

    return loaded


def test_every_fault_of_a_plan_is_named(loaded):
    def names(content) -> None:
        content["methods"]["llt"]["indicators"] = "learnt"
        content["methods"]["uniform"]["budgets"] = ["w1a1"]

    with pytest.raises(ConfigError, match=r"methods\.uniform\.budgets.*'w1a1'.*methods\.llt\.indicators.*'learnt'"):
        loaded(names)
    with pytest.raises(ConfigError, match=r"finetuning\.learningrate is unknown; there are epochs"):
        loaded(lambda content: content["finetuning"].update(learningrate=0.1))


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (
            lambda plan: plan["methods"]["mct"].update(rival="mctt"),
            "methods.mct.rival is 'mctt'; there are hawq, mct, diffq",
        ),
        (
            lambda plan: plan["methods"]["nncf-int8"].update(rival="mct"),
            "methods.nncf-int8.rival is 'mct'; there are nncf_int8, diffq",
        ),
        (lambda plan: plan["budgets"]["w3a3"]["limits"].clear(), "budgets.w3a3.limits: "),
        (
            lambda plan: plan["budgets"]["weights-3"]["limits"].update(average_weight_bits=-1),
            "budgets.weights-3.limits: ",
        ),
        (lambda plan: plan.update(seeds=[0, 1, 0]), "seeds has 0 more than once"),
        (lambda plan: plan["budgets"]["w3a4"].update(label="BitOPs of W3A3"), "budgets.*.label has 'BitOPs of W3A3'"),
    ],
)
def test_what_would_only_show_in_a_cell_is_named_at_once(loaded, edit, fault: str):
    with pytest.raises(ConfigError) as caught:
        loaded(edit)
    assert fault in str(caught.value)


def test_a_text_may_be_one_line_or_several(loaded):
    assert loaded(lambda plan: plan.update(about="One line.")).about == "One line."
    assert loaded(lambda plan: plan.update(about=["Two", "lines."])).about == "Two\nlines."
