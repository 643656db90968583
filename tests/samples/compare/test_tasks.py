"""What happens to a cell whose work fails: the others go on, its reason is kept, and the next run tries again."""

from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import pytest
from rich.console import Console
from torch import nn

from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import MissingDependencyError
from llt_nncf.errors import TrainingDivergedError

ANY_BITS = (8, 7, 6, 5, 4, 3, 2)


@pytest.fixture
def choosing(sample, tmp_path, monkeypatch):
    """Chooses at four budgets, with what a method says at each of them, and returns the files."""
    tasks, files = sample("tasks"), sample("cell_files").CellFiles(tmp_path)

    def choosing(**said):
        def chosen(setting, cell):
            if isinstance(said[cell.budget], Exception):
                raise said[cell.budget]
            return sample("results").Cell(cell.method, cell.budget, cell.seed, "done", bits={"conv": (2, 3)})

        monkeypatch.setitem(tasks._process, "setting", SimpleNamespace(out=tmp_path))
        monkeypatch.setattr(tasks, "_chosen", chosen)
        for budget in said:
            tasks.choose("rival", budget, 0)
        return files

    return choosing


def test_a_budget_that_fails_leaves_the_others_alone(choosing):
    files = choosing(
        w2=InfeasibleBudgetError("It cannot."),
        w3=KeyError("made up"),
        w4=None,
        w5=MissingDependencyError("Install it."),
    )
    cells = [files.load_choice("rival", name, 0) for name in ("w2", "w3", "w4", "w5")]
    assert [cell.status for cell in cells] == ["infeasible", "failed", "done", "missing"]
    assert [cell.reason for cell in cells] == ["It cannot.", "KeyError: 'made up'", "", "Install it."]


def test_what_failed_or_was_missing_is_chosen_again_and_nothing_else(sample, choosing):
    files = choosing(w2=InfeasibleBudgetError("It cannot."), w3=KeyError(), w4=None, w5=MissingDependencyError())
    keys = [("rival", name, 0) for name in ("w2", "w3", "w4", "w5", "w6")]
    assert sample("running")._choices(files, keys) == [("rival", name, 0) for name in ("w3", "w5", "w6")]


def test_work_that_a_broken_pool_does_not_take_is_an_error_of_each_item(sample):
    class Broken:
        def submit(self, *_):
            raise BrokenProcessPool("A worker was killed.")

    tasks = sample("tasks")
    keys = [("a", "w2", 0), ("b", "w2", 0)]
    errors = sample("running")._do(Broken(), tasks.choose, keys, Console(quiet=True))
    assert errors == dict.fromkeys(keys, "A worker was killed.")


def of_any_bits(sample, *rows: Layer):
    setting = sample("setting").Setting(None, None, None, None)
    vars(setting)["layers"] = LayerTable(rows)  # in the place of what a model would say
    return setting


def test_only_what_is_searched_gets_other_bits(sample):
    setting = of_any_bits(
        sample,
        Layer("first", 100, 10, "image", (8,), (8,)),
        Layer("both", 100, 10, "a", (4, 2), (4, 2)),
        Layer("beside the last", 100, 10, "b", (4, 2), (8,)),
        Layer("last", 100, 10, "b", (8,), (8,)),
    )
    bits = {row.name: (row.weight_bits, row.activation_bits) for row in setting.layers_of_any_bits.layers}
    assert bits == {
        "first": ((8,), (8,)),
        "both": (ANY_BITS, ANY_BITS),
        "beside the last": (ANY_BITS, (8,)),
        "last": ((8,), (8,)),
    }


@pytest.mark.parametrize(
    ("name", "limits", "reason"),
    [
        ("nncf_int8", {"bitops_as": {"weight_bits": 3, "activation_bits": 3}}, "has 8 bits everywhere"),
        ("diffq", {"average_weight_bits": 4, "gbitops": 1e-6}, "it has no BitOPs"),
    ],
)
def test_methods_with_quantizers_of_their_own_are_held_to_the_budget(sample, name, limits, reason):
    setting = of_any_bits(sample, Layer("conv", 100, 10, "a", ANY_BITS, ANY_BITS))
    budget = sample("plan").TargetBudget("made up", limits, weight_only=name == "diffq")
    vars(setting)["plan"] = SimpleNamespace(budgets={"w3": budget}, finetuning=None)
    with pytest.raises(InfeasibleBudgetError, match=reason):
        sample("natives").train_natively(setting, name, sample("results").Cell("native", "w3", 0, "done"))


def test_a_training_that_diverges_ends_with_its_step(sample, small, loader):
    finetuning = sample("plan").Finetuning(epochs=1, batch_size=16, learning_rate=1e30)
    setting = SimpleNamespace(plan=SimpleNamespace(finetuning=finetuning), loader=lambda seed: loader)
    with pytest.raises(
        TrainingDivergedError, match=r"at step [23] of the fine-tuning; lower finetuning\.learning_rate"
    ):
        sample("finetuning").train(setting, nn.Sequential(small, nn.Identity()), seed=0)
