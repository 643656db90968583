"""The recipes for ImageNet: what their configs say, what they cost, and the sample that runs them, on small images."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import llt_nncf.register  # noqa: F401

# isort: split

from nncf import NNCFConfig
from nncf.common.logging import nncf_logger

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import PolicyCost
from llt_nncf.indicators import insert_quantizers
from samples.classification.models import build_model

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "imagenet" / "main.py"
RECIPES = sorted((ROOT / "configs" / "imagenet").glob("*.json"))

# Section 1 of the paper's supplement: alpha, and epochs of importance training.
SUPPLEMENT = {"resnet18": (3.0, 5), "resnet50": (2.0, 1), "mobilenet_v1": (1.0, 5)}
LIMITS = ("bitops_as", "compression_ratio", "weight_mib")
BUDGETS = {
    "resnet18_w3a3": {"bitops_as": {"weight_bits": 3, "activation_bits": 3}},
    "resnet18_w4a4": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
    "resnet50_w3a4_12.2x": {"bitops_as": {"weight_bits": 3, "activation_bits": 4}, "compression_ratio": 12.2},
    "mobilenet_v1_w4a4": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
    "mobilenet_v1_2.08mib": {"weight_mib": 2.08},
}


@pytest.fixture(scope="module")
def sample():
    """The script as a module, with what lies beside it; its name is not ``main``, which is the other sample's."""
    level = nncf_logger.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(SAMPLE.parent), *sys.path])
        spec = importlib.util.spec_from_file_location("imagenet_main", SAMPLE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    nncf_logger.setLevel(level)  # a dry run makes it quiet


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_states_what_the_paper_says(path: Path):
    recipe = NNCFConfig.from_json(str(path))
    section = recipe["compression"]
    alpha, importance_epochs = SUPPLEMENT[recipe["model"]]
    assert path.stem.startswith(recipe["model"])
    assert section["budget"] == BUDGETS[path.stem]
    assert section["candidate_bits"] == [6, 5, 4, 3, 2]
    assert section["fixed_bits"] == 8
    assert section["alpha"] == alpha
    assert section["search"]["power"] == 1
    assert section["importance"] == {"epochs": importance_epochs, "learning_rate": 0.01}
    assert recipe["epochs"] == 90
    assert recipe["optimizer"]["learning_rate"] == 0.04
    assert recipe["optimizer"]["weight_decay"] == 2.5e-5
    assert recipe["optimizer"]["warmup_epochs"] == 5
    assert recipe["label_smoothing"] == 0.1
    assert recipe["input_info"]["sample_size"] == [1, 3, 224, 224]
    # For weight only quantization, the supplement sets activations to 8 bits.
    assert section.get("activations") == ({"bits": 8} if "mib" in path.stem else None)


def test_there_is_a_recipe_for_every_budget():
    assert {path.stem for path in RECIPES} == set(BUDGETS)


def mobilenet_v1() -> list[tuple[int, ...]]:
    """Layers as (inputs per filter, filters, kernel, stride, side of the input): Table 1 of Howard et al."""
    rows, side, channels = [(3, 32, 3, 2, 224)], 112, 32
    widths = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in widths:
        rows += [(1, channels, 3, stride, side), (channels, width, 1, 1, side // stride)]
        side, channels = side // stride, width
    return [*rows, (1024, 1000, 1, 1, 1)]


def resnet(depth: int) -> list[tuple[int, ...]]:
    """The same of ResNet-18 and ResNet-50: Table 1 of He et al., strides in the 3x3 convolutions as in torchvision."""
    rows, channels, side = [(3, 64, 7, 2, 224)], 64, 56
    blocks, wide = {18: ((2, 2, 2, 2), 1), 50: ((3, 4, 6, 3), 4)}[depth]
    for index, count in enumerate(blocks):
        width = 64 * 2**index
        for block in range(count):
            stride = 2 if index and not block else 1
            if depth == 18:
                rows += [(channels, width, 3, stride, side), (width, width, 3, 1, side // stride)]
            else:
                rows += [(channels, width, 1, 1, side), (width, width, 3, stride, side)]
                rows += [(width, 4 * width, 1, 1, side // stride)]
            if channels != wide * width:
                rows += [(channels, wide * width, 1, stride, side)]
            channels, side = wide * width, side // stride
    return [*rows, (channels, 1000, 1, 1, 1)]


def gbitops(
    layers: list[tuple[int, ...]], weight_bits: int, activation_bits: int, *, as_authors: bool = False
) -> float:
    """BitOPs in 1e9 with the first and the last layer at 8 bits."""
    macs = []
    for inputs, filters, kernel, stride, side in layers:
        out = (side + 2 * (kernel // 2) - kernel) / stride + 1
        # The authors' script rounds the area down, not the side.
        macs.append(inputs * filters * kernel**2 * (int(out**2) if as_authors else int(out) ** 2))
    return (sum(macs[1:-1]) * weight_bits * activation_bits + 64 * (macs[0] + macs[-1])) / 1e9


@pytest.fixture(scope="module")
def tables() -> dict[str, LayerTable]:
    image = torch.zeros(1, 3, 224, 224)
    models = {name: build_model(name, num_classes=1000, in_channels=3) for name in SUPPLEMENT}
    return {name: insert_quantizers(models[name], image, candidate_bits=[6, 5, 4, 3, 2]).table for name in models}


# What uniform bits cost with true MACs, and with the authors' MACs, which is what they publish where they do:
# 9.67 (and 9.68) for MobileNetV1. Without first and last layer it would be 8.91.
@pytest.mark.parametrize(
    ("model", "layers", "bits", "true", "authors"),
    [
        ("mobilenet_v1", mobilenet_v1(), (4, 4), 9.669, 9.677),
        ("resnet18", resnet(18), (3, 3), 22.846, 23.058),
        ("resnet18", resnet(18), (4, 4), 34.714, 35.039),
        ("resnet50", resnet(50), (3, 4), 55.313, 56.036),
    ],
    ids=lambda value: str(value) if isinstance(value, str | tuple) else "",
)
def test_bitops_of_uniform_bits_are_those_of_the_geometry(tables, model, layers, bits, true, authors):
    table = tables[model]
    policy = BitPolicy.uniform(table, weight_bits=bits[0], activation_bits=bits[1])
    assert len(table.layers) == len(layers)
    assert PolicyCost.from_policy(policy, table).gbitops == pytest.approx(gbitops(layers, *bits), rel=1e-12)
    assert gbitops(layers, *bits) == pytest.approx(true, abs=5e-4)
    assert gbitops(layers, *bits, as_authors=True) == pytest.approx(authors, abs=5e-4)


def test_mobilenet_v1_has_the_macs_and_weights_of_its_paper(tables):
    # Table 4 of Howard et al.: 569 million multiply-adds, 4.2 million parameters.
    layers = tables["mobilenet_v1"].layers
    assert sum(layer.macs for layer in layers) == 568_740_352
    assert sum(layer.weight_count for layer in layers) / 1e6 == pytest.approx(4.2, abs=0.05)


def test_the_learning_rate_warms_up_in_a_line_and_falls_along_a_cosine(sample):
    factor = sys.modules[sample.finetune.__module__].rate_factor
    rates = [factor(step, warmup=50, total=900) for step in range(900)]
    assert rates[:50] == pytest.approx([(step + 1) / 50 for step in range(50)])
    assert rates[50] == 1
    assert rates[475] == pytest.approx(0.5)
    assert rates[899] < 1e-4
    assert all(later < earlier for earlier, later in zip(rates[50:], rates[51:], strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_dry_run_of_the_recipe_shows_layers_budgets_and_cost(sample, path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = check_dry_run(sample, path, capsys)
    # BitOPs by the geometry, as above; ratio and size as the config has them.
    allowed = {
        "resnet18_w3a3": ["22.846"],
        "resnet18_w4a4": ["34.714"],
        "resnet50_w3a4_12.2x": ["55.313", "12.2"],
        "mobilenet_v1_w4a4": ["9.6692"],
        "mobilenet_v1_2.08mib": ["2.08"],
    }
    rows = [line.split("│") for line in out if line.startswith(tuple(f"│ {limit}, " for limit in LIMITS))]
    assert [row[3].strip() for row in rows] == allowed[path.stem]


def test_a_dry_run_on_smaller_images_does_the_same(sample, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    recipe = json.loads((ROOT / "configs" / "imagenet" / "mobilenet_v1_w4a4.json").read_text())
    recipe["input_info"]["sample_size"] = [1, 3, 64, 64]
    (tmp_path / "small.json").write_text(json.dumps(recipe))
    check_dry_run(sample, tmp_path / "small.json", capsys)


def check_dry_run(sample, path: Path, capsys) -> list[str]:
    recipe = json.loads(path.read_text())
    rows = sample.main(["--config", str(path), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    # 1,281,167 images are 5,004 batches of 256; six passes a step are five uniform policies and a sampled one.
    assert rows["importance training"]["passes"] == 5004 * 6 * SUPPLEMENT[recipe["model"]][1]
    assert rows["fine-tuning"]["passes"] == 5004 * 90
    assert all(row["step_s"] > 0 for row in rows.values())
    layers = {"resnet18": 21, "resnet50": 54, "mobilenet_v1": 28}[recipe["model"]]
    assert any(line.startswith(f"{layers} layers, ") for line in lines)
    assert sum(line.endswith("│ fixed │") for line in lines) == 2
    for limit in recipe["compression"]["budget"]:
        assert any(line.startswith(f"│ {limit}, ") for line in lines)
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[-1].startswith("The whole recipe: torchrun")
    return lines


def small_recipe(folder: Path) -> list[str]:
    """Two classes of 16 x 16 pixels, light and dark, a model with two epochs of everything: the sample's arguments."""
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 24), ("val", 12)):
        for name, least in (("dark", 0), ("light", 128)):
            images = torch.randint(least, least + 128, (count, 20, 20, 3), generator=generator, dtype=torch.uint8)
            (folder / part / name).mkdir(parents=True)
            for index, image in enumerate(images):
                Image.fromarray(image.numpy()).save(folder / part / name / f"{index}.png")
    recipe = json.loads((ROOT / "configs" / "imagenet" / "resnet18_w3a3.json").read_text())
    recipe |= {"model": "digits-cnn", "input_info": {"sample_size": [1, 3, 16, 16]}, "batch_size": 8, "epochs": 2}
    recipe["normalization"] = {"mean": [0.5] * 3, "std": [0.5] * 3}
    recipe["optimizer"]["warmup_epochs"] = 1
    recipe["compression"]["importance"]["epochs"] = 1
    recipe["compression"]["initializer"] = {
        "range": {"num_init_samples": 32},
        "batchnorm_adaptation": {"num_bn_adaptation_samples": 32},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))
    torch.manual_seed(0)
    save_file(build_model("digits-cnn", num_classes=2, in_channels=3).state_dict(), folder / "weights.safetensors")
    arguments = ["--config", str(folder / "recipe.json"), "--data", str(folder), "--latency-rounds", "0"]
    return [*arguments, "--weights", str(folder / "weights.safetensors")]


def test_a_recipe_runs_from_images_to_files_and_after_stops_ends_in_the_same_weights(sample, tmp_path, monkeypatch):
    arguments = [*small_recipe(tmp_path), "--workers", "0", "--validation-samples", "8"]
    whole = sample.main([*arguments, "--out", str(tmp_path / "whole")])
    assert whole["report"].passed
    assert 0 <= whole["float_top1"] <= 100
    assert whole["top1"] > 80
    written = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {"model.onnx", "model.xml", "policy.json", "indicators.json", "report.json", "checkpoint.pt"} <= written

    again = [*arguments, "--out", str(tmp_path / "again"), "--resume"]
    module = sys.modules[sample.finetune.__module__]
    evaluate, stops, trained_at = module.evaluate, iter([True, False, True]), set()

    def evaluate_or_stop(*of):
        if next(stops):
            raise KeyboardInterrupt
        return evaluate(*of)

    monkeypatch.setattr(module, "evaluate", evaluate_or_stop)
    for epochs_done in (0, 1):  # before the end of the first epoch, and of the second
        with pytest.raises(KeyboardInterrupt):
            sample.main(again)
        checkpoint = torch.load(tmp_path / "again" / "checkpoint.pt", weights_only=True)
        assert checkpoint["epoch"] == epochs_done
        trained_at.add((tmp_path / "again" / "indicators.json").stat().st_mtime_ns)
    monkeypatch.undo()
    resumed = sample.main(again)
    assert len(trained_at) == 1
    assert resumed["top1"] == whole["top1"]
    one, other = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "again"))
    assert all(torch.equal(other["model"][name], value) for name, value in one["model"].items())
    assert other["schedule"]["last_epoch"] == one["schedule"]["last_epoch"] == 2 * 6


def test_what_a_run_needs_and_a_dry_run_does_not_is_asked_for(sample, capsys):
    with pytest.raises(SystemExit):
        sample.main(["--config", str(RECIPES[0])])
    assert "--data and --weights are needed" in capsys.readouterr().err


def test_keys_that_a_recipe_lacks_are_named(sample, tmp_path):
    recipe = json.loads(RECIPES[0].read_text())
    del recipe["label_smoothing"], recipe["optimizer"]["momentum"]
    (tmp_path / "short.json").write_text(json.dumps(recipe))
    with pytest.raises(ValueError, match=r"short\.json lacks label_smoothing, optimizer\.momentum; see"):
        sample.main(["--config", str(tmp_path / "short.json"), "--dry-run"])


@pytest.mark.slow
def test_two_ranks_share_the_images_and_the_first_one_writes_the_files(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(SAMPLE), *small_recipe(tmp_path), "--workers", "1", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2 of 2") == 1
    # 48 images, of which every rank takes 4 at a time: 6 steps an epoch, as one process takes with 8 at a time.
    checkpoint = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    assert checkpoint["schedule"]["last_epoch"] == 2 * 6
    assert json.loads((tmp_path / "out" / "report.json").read_text())["passed"]
