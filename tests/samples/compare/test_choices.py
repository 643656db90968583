"""How the comparison chooses bits: uniform policies, controls, and the plan that names them."""

import json
import re
from pathlib import Path

import pytest

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ArtifactError
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

    def values(content) -> None:
        content["finetuning"].update(learningrate=0.1, epochs="1")
        del content["seeds"]

    with pytest.raises(ConfigError) as caught:
        loaded(names)
    assert re.search(r"methods\.uniform\.budgets.*'w1a1'.*methods\.llt\.indicators.*'learnt'", str(caught.value), re.S)
    with pytest.raises(ConfigError) as caught:
        loaded(values)
    assert "3 faults in " in str(caught.value)
    assert "config: 'seeds' is a required property." in str(caught.value)
    assert "finetuning.learningrate: unknown key; did you mean 'learning_rate'?" in str(caught.value)
    assert "finetuning.epochs='1': must be of type integer." in str(caught.value)


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
        (
            lambda plan: plan["budgets"]["w3a3"].pop("limits"),
            "budgets.w3a3.limits: The budget's limits: none was given",
        ),
        (
            lambda plan: plan["budgets"]["weights-3"]["limits"].update(average_weight_bits=-1),
            "budgets.weights-3.limits.average_weight_bits=-1: must be above 0",
        ),
        (
            lambda plan: plan["budgets"]["w3a3"]["limits"].update(without_fixed=["gbitops"]),
            "budgets.w3a3.limits: The budget's limits: without_fixed names 'gbitops'",
        ),
        (
            lambda plan: plan["budgets"]["w3a3"]["limits"].update(latency_ms=1, latency_table="none.json"),
            "budgets.w3a3.limits: compression.budget.latency_table: none.json: no such file",
        ),
        (
            lambda plan: plan["budgets"]["reference-w8a8"].update(uniform_bits=[9, 8]),
            "budgets.reference-w8a8.uniform_bits[0]=9: must be at most 8",
        ),
        (
            lambda plan: plan["budgets"]["reference-w8a8"].update(uniform_bits=[8]),
            "budgets.reference-w8a8.uniform_bits=[8]: must be a list of a length of at least 2",
        ),
        (
            lambda plan: plan["budgets"]["weights-3"].update(weight_only="no"),
            "budgets.weights-3.weight_only='no': must be of type boolean",
        ),
        (lambda plan: plan["budgets"]["w3a4"].update(label="BitOPs of W3A3"), "budgets.*.label has 'BitOPs of W3A3'"),
        (
            lambda plan: plan["methods"]["llt"].update(alpha="foo"),
            "methods.llt.alpha='foo': must be 'auto' or a number",
        ),
        (
            lambda plan: plan["methods"]["llt"].update(order="backwards"),
            "methods.llt.order='backwards': must be one of",
        ),
        (lambda plan: plan.update(methods=[1]), "methods=[1]: must be of type object"),
        (lambda plan: plan.update(budgets=None), "budgets=None: must be of type object"),
        (lambda plan: plan.update(finetuning=None), "finetuning=None: must be of type object"),
        (lambda plan: plan.update(about=3), "about=3: must be of type string or array"),
        (lambda plan: plan.update(seeds=0), "seeds=0: must be of type array"),
        (lambda plan: plan.update(seeds=[]), "seeds=[]: must be a list of a length of at least 1"),
        (lambda plan: plan.update(seeds=["a"]), "seeds[0]='a': must be of type integer"),
        (lambda plan: plan.update(seeds=[0, 1, 0]), "seeds=[0, 1, 0]: names a value twice"),
        (
            lambda plan: plan.update(dataset="cifar"),
            "dataset='cifar': must be one of 'digits', 'fashion-mnist', 'cifar10'",
        ),
        (lambda plan: plan.update(model="resnet21"), "model: There is no model 'resnet21'. Did you mean resnet"),
        (lambda plan: plan["finetuning"].update(epochs=0), "finetuning.epochs=0: must be at least 1"),
        (lambda plan: plan["finetuning"].update(batch_size=0), "finetuning.batch_size=0: must be at least 1"),
        (lambda plan: plan["finetuning"].update(learning_rate=-1), "finetuning.learning_rate=-1: must be above 0"),
        (
            lambda plan: plan["finetuning"].update(distillation_temperature=0),
            "finetuning.distillation_temperature=0: must be above 0",
        ),
        (
            lambda plan: plan["compression"].update(candidatebits=[2]),
            "compression.candidatebits: unknown key; did you mean 'candidate_bits'?",
        ),
        (
            lambda plan: plan["compression"].update(target="cpu", fixed_bits=8),
            "compression: compression.fixed_bits=8: ",
        ),
        (
            lambda plan: plan["indicators"]["trained"].update(max_step=1),
            "indicators.trained.max_step: unknown key; did you mean 'max_steps'?",
        ),
        (
            lambda plan: plan["indicators"]["trained"].update(where="training"),
            'indicators.trained: compression.importance.data_fraction: needs "where": "init"',
        ),
    ],
)
def test_what_would_only_show_in_a_cell_is_named_at_once(loaded, edit, fault: str):
    with pytest.raises(ConfigError) as caught:
        loaded(edit)
    assert fault in str(caught.value)


@pytest.mark.parametrize(("text", "fault"), [("{", "cannot be read as JSON"), (None, "no such file")])
def test_a_config_that_cannot_be_read_is_named(sample, tmp_path, text, fault: str):
    if text:
        (tmp_path / "plan.json").write_text(text, "utf-8")
    with pytest.raises(ArtifactError, match=f"plan.json: {fault}"):
        sample("plan").Plan.load(tmp_path / "plan.json")


def test_a_config_that_is_no_object_is_named(sample, tmp_path):
    (tmp_path / "plan.json").write_text("[]", "utf-8")
    with pytest.raises(ConfigError, match=r"config=\[\]: must be of type object"):
        sample("plan").Plan.load(tmp_path / "plan.json")


def test_a_text_may_be_one_line_or_several(loaded):
    assert loaded(lambda plan: plan.update(about="One line.")).about == "One line."
    assert loaded(lambda plan: plan.update(about=["Two", "lines."])).about == "Two\nlines."
