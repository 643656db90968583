"""Results in a folder are of one plan: another one is refused, and what may grow may grow."""

import copy
import json

import pytest

from llt_nncf.errors import ConfigError

PLAN = {
    "about": ["For the reader."],
    "dataset": "digits",
    "model": "digits-cnn",
    "seeds": [0],
    "compression": {"algorithm": "llt_quantization", "initializer": {"range": {"num_init_samples": 64}}},
    "finetuning": {"epochs": 1, "batch_size": 64, "learning_rate": 0.01},
    "indicators": {"trained": {"max_steps": 1}},
    "methods": {
        "uniform": {"label": "Uniform", "kind": "uniform"},
        "llt": {"label": "LLT", "kind": "indicators", "indicators": "trained"},
    },
    "budgets": {"w3": {"label": "3 bits", "limits": {"average_weight_bits": 3}, "weight_only": True}},
}


@pytest.fixture
def keep(sample, tmp_path):
    def keep(edit=None, *, weights=None, compare_weights=True, **options) -> None:
        content = copy.deepcopy(PLAN)
        if edit:
            edit(content)
        (tmp_path / "config.json").write_text(json.dumps(content), "utf-8")
        plan = sample("plan").Plan.load(tmp_path / "config.json")
        setting = sample("setting").Setting(plan, tmp_path / "out", None, weights, **options)
        sample("kept_plan").keep_plan(setting, compare_weights=compare_weights)

    return keep


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda plan: plan["finetuning"].update(learning_rate=0.02), "finetuning.learning_rate was 0.01 and is 0.02"),
        (
            lambda plan: plan["finetuning"].update(distillation_temperature=2.0),
            "finetuning.distillation_temperature was None and is 2.0",
        ),
        (lambda plan: plan["methods"]["llt"].update(alpha="auto"), "methods.llt.alpha was 4.0 and is 'auto'"),
        (lambda plan: plan["indicators"]["trained"].update(epochs=2), "indicators.trained.epochs was None and is 2"),
        (lambda plan: plan["indicators"]["trained"].clear(), "indicators.trained.max_steps was 1 and is None"),
        (
            lambda plan: plan["budgets"]["w3"]["limits"].update(average_weight_bits=2.5),
            "budgets.w3.limits.average_weight_bits was 3 and is 2.5",
        ),
    ],
)
def test_what_would_not_be_comparable_is_refused_by_name(keep, tmp_path, edit, named: str):
    keep()
    before = (tmp_path / "out" / "plan.json").read_text("utf-8")
    with pytest.raises(ConfigError) as caught:
        keep(edit)
    assert named in str(caught.value)
    assert "another --out" in str(caught.value)
    assert (tmp_path / "out" / "plan.json").read_text("utf-8") == before


def test_fewer_samples_are_another_plan(keep):
    keep(train_samples=64)
    with pytest.raises(ConfigError, match="train_samples was 64 and is None"):
        keep()


def test_other_weights_are_another_plan_unless_none_are_used(keep, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"made up")
    keep(weights=weights)
    keep(compare_weights=False)
    with pytest.raises(ConfigError, match="weights_sha256 was '.*' and is None"):
        keep()
    weights.write_bytes(b"others")
    with pytest.raises(ConfigError, match="weights_sha256 was"):
        keep(weights=weights)


def test_texts_seeds_and_further_methods_may_change_and_nothing_is_forgotten(keep):
    def grow(plan) -> None:
        plan["about"], plan["seeds"] = ["Other words."], [0, 1]
        plan["methods"]["uniform"]["label"] = "All the same"
        plan["methods"]["uniform"]["budgets"] = ["w3"]
        plan["methods"]["other"] = {"label": "Other", "kind": "uniform"}
        del plan["methods"]["llt"]

    keep()
    keep(grow)
    with pytest.raises(ConfigError, match=r"methods\.llt\.alpha"):
        keep(lambda plan: plan["methods"]["llt"].update(alpha=3.0))


def test_other_defaults_of_the_search_are_another_plan_only_for_what_searches(keep, tmp_path):
    keep()
    path = tmp_path / "out" / "plan.json"
    saved = json.loads(path.read_text("utf-8"))
    saved["methods"]["uniform"].update(alpha=2.0, power=1.0)
    path.write_text(json.dumps(saved), "utf-8")
    keep()
    saved["methods"]["llt"].update(power=1.0)
    path.write_text(json.dumps(saved), "utf-8")
    with pytest.raises(ConfigError, match=r"methods\.llt\.power was 1\.0 and is 2\.0"):
        keep()
