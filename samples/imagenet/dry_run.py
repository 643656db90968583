"""What ``--dry-run`` puts in the place of ImageNet, and what it shows of a recipe: layers, budgets and cost."""

import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch import nn
from torchvision.datasets import FakeData
from torchvision.transforms import ToTensor

STEPS = 2
TRAINING_IMAGES, CLASSES = 1_281_167, 1000


class TimedLoss(nn.CrossEntropyLoss):
    """Notes when it is called, which is once in every forward-backward pass of either stage."""

    def __init__(self, label_smoothing: float):
        super().__init__(label_smoothing=label_smoothing)
        self.calls: list[float] = []

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        if outputs.is_cuda:
            torch.cuda.synchronize()
        self.calls.append(time.perf_counter())
        return super().forward(outputs, target)


def shortened(recipe: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """The same recipe for two steps of importance training and two of fine-tuning."""
    samples = STEPS * batch_size
    section = recipe["compression"]
    initializer = {
        "range": {"num_init_samples": samples},
        "batchnorm_adaptation": {"num_bn_adaptation_samples": samples},
    }
    importance = {**section.get("importance", {}), "epochs": 1, "max_steps": STEPS}
    compression = {**section, "importance": importance, "initializer": initializer}
    return {**recipe, "batch_size": batch_size, "epochs": 1, "compression": compression}


def random_images(recipe: dict[str, Any]) -> FakeData:
    """Noise of the size of the recipe's images, as many as the steps take."""
    sample_shape = tuple(recipe["input_info"]["sample_size"][1:])
    return FakeData(STEPS * recipe["batch_size"], sample_shape, CLASSES, ToTensor())


def print_recipe(
    ctrl: Any, recipe: dict[str, Any], calls: list[float], batch_size: int, console: Console
) -> dict[str, dict[str, float]]:
    """
    Prints the layers, the budgets and what the recipe costs on ImageNet, and returns the cost by stage.

    :param ctrl: Of the model, after both stages.
    :param recipe: The recipe, not shortened.
    :param calls: When the loss was computed, in seconds: equally often in every step, once in those of fine-tuning.
    :param batch_size: Images in these steps.
    """
    report = ctrl.statistics().quantization.report
    _print_layers(report, console)
    _print_budgets(report, console)
    importance, macs = recipe["compression"].get("importance", {}), report.cost.macs
    stages = {
        "importance training": (importance.get("epochs", 1), calls[:-STEPS]),
        "fine-tuning": (recipe["epochs"], calls[-STEPS:]),
    }
    rows = {stage: _cost(*values, macs, recipe["batch_size"], batch_size) for stage, values in stages.items()}
    _print_cost(rows, recipe["batch_size"], batch_size, console)
    return rows


def _print_layers(report: Any, console: Console) -> None:
    title = "Layers, with the bits that two steps on noise lead to"
    table = _table(title, "layer", "W bits", "A bits", "MMACs", "weights", "")
    for layer in report.table.layers:
        weight_bits, activation_bits = report.policy.bits[layer.name]
        figures = (f"{layer.macs / 1e6:.3f}", f"{layer.weight_count:,}", "fixed" if layer.is_fixed else "")
        table.add_row(layer.name, str(weight_bits), str(activation_bits), *figures)
    console.print(table)
    cost = report.cost
    console.print(
        f"{len(report.table.layers)} layers, {cost.macs / 1e9:.4g} GMACs, {cost.weight_count / 1e6:.4g} million weights"
    )


def _print_budgets(report: Any, console: Console) -> None:
    table = _table("Budgets", "limit", "used", "allowed", "share")
    for share in report.shares:
        table.add_row(f"{share.name}, {share.unit}", f"{share.used:.5g}", f"{share.allowed:.5g}", f"{share.share:.2%}")
    console.print(table)


def _cost(epochs: int, calls: list[float], macs: int, batch_size: int, timed_batch_size: int) -> dict[str, float]:
    passes_per_step, steps = len(calls) // STEPS, epochs * (TRAINING_IMAGES // batch_size)
    # From the last pass of the first step to that of the second: one step, and nothing of what comes before or after.
    step_s = calls[-1] - calls[-1 - passes_per_step]
    return {
        "epochs": epochs,
        "steps": steps,
        "passes_per_step": passes_per_step,
        "passes": steps * passes_per_step,
        # Forward once, backward twice: to the layer's input and to its weights.
        "gmacs": 3 * macs * batch_size * steps * passes_per_step / 1e9,
        "step_s": step_s,
        "hours": step_s * batch_size / timed_batch_size * steps / 3600,
    }


def _print_cost(rows: dict[str, dict[str, float]], batch_size: int, timed_batch_size: int, console: Console) -> None:
    table = _table(f"Cost on {TRAINING_IMAGES:,} images, {batch_size} in a batch", "", *rows)
    lines = (
        ("epochs", "epochs", 1, ",.0f"),
        ("steps", "steps", 1, ",.0f"),
        ("forward-backward passes in a step", "passes_per_step", 1, ",.0f"),
        ("forward-backward passes", "passes", 1, ",.0f"),
        ("million GMACs", "gmacs", 1e6, ",.1f"),
        (f"seconds for a step of {timed_batch_size} images, here", "step_s", 1, ".3f"),
        ("hours at that speed", "hours", 1, ",.0f"),
    )
    for label, key, unit, form in lines:
        table.add_row(label, *(format(row[key] / unit, form) for row in rows.values()))
    console.print(table)
    has_cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if has_cuda else f"{torch.get_num_threads()} threads of a CPU"
    console.print(
        f"The hours are an estimate from one step, measured on this machine ({device}), in "
        "proportion to the images; without loading them, and without evaluation. GMACs: a pass back counts twice."
    )


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
