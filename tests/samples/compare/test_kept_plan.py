"""Results in a folder are of one plan: another one is refused, and what may grow may grow."""

import copy
import json
from pathlib import Path

import pytest
from PIL import Image

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
def load(sample, tmp_path):
    """What is compared, after an edit of the config."""

    def load(edit=None, *, data=None, weights=None, **options):
        content = copy.deepcopy(PLAN)
        if edit:
            edit(content)
        (tmp_path / "config.json").write_text(json.dumps(content), "utf-8")
        plan = sample("plan").Plan.load(tmp_path / "config.json")
        return sample("setting").Setting(plan, tmp_path / "out", data, weights, **options)

    return load


@pytest.fixture
def keep(sample, load):
    def keep(edit=None, *, only_compare=False, **options) -> None:
        sample("kept_plan").keep_plan(load(edit, **options), only_compare=only_compare)

    return keep


@pytest.fixture
def finish(sample, tmp_path):
    """Leaves a cell of each method, or of those that are named, and the indicators."""

    def finish(*methods: str, status: str = "done") -> None:
        for method in methods or PLAN["methods"]:
            cell = sample("results").Cell(method, "w3", 0, status, bits={"conv": (3, 8)})
            sample("cell_files").CellFiles(tmp_path / "out").save_choice(cell)
        if not methods:
            (tmp_path / "out" / "indicators" / "trained-s0").mkdir(parents=True)
            (tmp_path / "out" / "indicators" / "trained-s0" / "cost.json").write_text("{}", "utf-8")

    return finish


def image_folder(folder: Path, *, colour: int) -> Path:
    """Two classes of two images, for training and for testing."""
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8), (colour, number, 0)).save(folder / name / f"{number}.png")
    return folder


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
        (lambda plan: plan["compression"].update(fixed_bits=7), "compression.fixed_bits was None and is 7"),
        (
            lambda plan: plan["budgets"]["w3"]["limits"].update(average_weight_bits=2.5),
            "budgets.w3.limits.average_weight_bits was 3 and is 2.5",
        ),
    ],
)
def test_what_would_not_be_comparable_is_refused_by_name(keep, finish, tmp_path, edit, named: str):
    keep()
    finish()
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


def test_what_has_no_result_yet_may_be_mended(keep, finish):
    def mend(plan) -> None:
        plan["methods"]["llt"].update(alpha=3.0)
        plan["indicators"]["trained"].update(max_steps=2)
        plan["budgets"]["w3"]["limits"].update(average_weight_bits=2.5)

    keep()
    finish("llt", status="failed")
    keep(mend)
    finish("llt", status="infeasible")
    with pytest.raises(ConfigError) as caught:
        keep()
    assert "methods.llt.alpha was 3.0 and is 4.0; budgets.w3.limits.average_weight_bits was 2.5" in str(caught.value)
    assert "indicators" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"dataset": "cifar10"}, {"weights": Path("none.safetensors")}],
    ids=["no data", "no weights"],
)
def test_a_run_that_cannot_begin_leaves_no_plan(sample, load, tmp_path, options):
    weights = options.pop("weights", None)
    with pytest.raises(FileNotFoundError, match="needs the folder of its files|no such file"):
        sample("main").float_top1(load(lambda plan: plan.update(options), weights=weights), report_only=False)
    assert not (tmp_path / "out").exists()
    sample("main").float_top1(load(test_samples=10), report_only=False)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"plan.json", "float.json"}


def test_a_report_needs_results(sample, load):
    with pytest.raises(ConfigError, match="has no results yet; leave out --report-only"):
        sample("main").float_top1(load(), report_only=True)


def test_other_weights_are_another_plan_unless_none_are_used(keep, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"made up")
    keep(weights=weights)
    before = (tmp_path / "out" / "plan.json").read_text("utf-8")
    keep(only_compare=True)
    assert (tmp_path / "out" / "plan.json").read_text("utf-8") == before
    with pytest.raises(ConfigError, match="weights_sha256 was '.*' and is None"):
        keep()
    weights.write_bytes(b"others")
    with pytest.raises(ConfigError, match="weights_sha256 was"):
        keep(weights=weights)


def test_other_data_are_another_plan_unless_none_are_used(keep, tmp_path):
    def images(plan) -> None:
        plan.update(dataset="imagefolder", model="resnet18")

    one, other = (image_folder(tmp_path / name, colour=colour) for name, colour in (("one", 10), ("other", 20)))
    keep(images, data=one)
    keep(images, data=one)
    keep(images, only_compare=True)
    with pytest.raises(ConfigError, match=r"data\.train\.sha256 was '.*data\.test\.sha256 was"):
        keep(images, data=other)
    (one / "train" / "a" / "1.png").unlink()
    with pytest.raises(ConfigError, match=r"data\.train\.samples was 4 and is 3"):
        keep(images, data=one)


def test_results_of_before_the_data_were_looked_at_get_their_hash(keep, finish, tmp_path):
    keep()
    finish()
    path = tmp_path / "out" / "plan.json"
    whole = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({key: value for key, value in whole.items() if key != "data"}), "utf-8")
    keep()
    assert json.loads(path.read_text("utf-8")) == whole
    assert whole["data"]["test"]["samples"] == 360  # a fifth of the 1,797 digits


def test_texts_seeds_and_further_methods_may_change_and_nothing_is_forgotten(keep, finish):
    def grow(plan) -> None:
        plan["about"], plan["seeds"] = ["Other words."], [0, 1]
        plan["methods"]["uniform"]["label"] = "All the same"
        plan["methods"]["uniform"]["budgets"] = ["w3"]
        plan["methods"]["other"] = {"label": "Other", "kind": "uniform"}
        del plan["methods"]["llt"]

    keep()
    finish()
    keep(grow)
    with pytest.raises(ConfigError, match=r"methods\.llt\.alpha"):
        keep(lambda plan: plan["methods"]["llt"].update(alpha=3.0))


def test_other_defaults_of_the_search_are_another_plan_only_for_what_searches(keep, finish, tmp_path):
    keep()
    finish()
    path = tmp_path / "out" / "plan.json"
    saved = json.loads(path.read_text("utf-8"))
    saved["methods"]["uniform"].update(alpha=2.0, power=1.0)
    path.write_text(json.dumps(saved), "utf-8")
    keep()
    saved["methods"]["llt"].update(power=1.0)
    path.write_text(json.dumps(saved), "utf-8")
    with pytest.raises(ConfigError, match=r"methods\.llt\.power was 1\.0 and is 2\.0"):
        keep()
