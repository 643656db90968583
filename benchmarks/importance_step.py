"""
What a joint step of importance training costs, as ratios measured side by side.

    python benchmarks/importance_step.py [--models ...] [--compile] [--rounds 15] [--statistics] [--device cuda]

A joint step has 5 uniform policies and a sampled one. It is set against six times a plain float32 forward and backward
pass, and against the same step with LSQ as the chain of expressions that the LIMPQ authors' code is made of. Memory is
PyTorch's own count of what a step holds at its peak beyond what was there before it.
"""

import argparse
import itertools
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch import nn
from torch.nn import functional

from llt_nncf.functional import integer_range
from llt_nncf.indicators import insert_quantizers
from llt_nncf.indicators import start_step_sizes
from llt_nncf.indicators.joint_step import JointStep
from llt_nncf.quantizers import SwitchableQuantizer

sys.path.insert(0, str(Path(__file__).parents[1] / "samples" / "classification"))
from models import build_model  # noqa: E402

BITS = (6, 5, 4, 3, 2)
PASSES = len(BITS) + 1
# Name -> (network, shape of a batch).
MODELS = {
    "resnet20": (lambda: build_model("resnet20", num_classes=10, in_channels=3), (64, 3, 32, 32)),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=10), (16, 3, 64, 64)),
    "resnet50": (lambda: torchvision.models.resnet50(), (32, 3, 224, 224)),
}


class ChainQuantizer(SwitchableQuantizer):
    """The same quantizer with LSQ written as an expression, whose gradients autograd finds."""

    def forward(self, x: Tensor) -> Tensor:
        low, high = integer_range(self.num_bits, signed=self.signed, narrow_range=self.narrow_range)
        step_size = self.step_size()
        scaled = step_size * (1.0 / math.sqrt(x.numel() * high))
        step_size = (step_size - scaled).detach() + scaled
        codes = (x / step_size).clamp(min=low, max=high)
        codes = (codes.round() - codes).detach() + codes
        return codes * step_size


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def joint_step(name: str, kind: str) -> Callable[[], object]:
    """Returns a function that does one step of ``kind``: float, llt, chain or compiled."""
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model = make().train()
    batch = (torch.randn(shape), torch.randint(10, shape[:1]))
    if kind == "float":

        def float_pass() -> None:
            model.zero_grad()
            loss_fn(model, batch).backward()

        return float_pass
    quantizers = insert_quantizers(model, batch[0], candidate_bits=BITS)
    start_step_sizes(model, quantizers, [batch], lambda m, b: m(b[0]))
    if kind == "chain":
        for quantizer in quantizers.all():
            quantizer.__class__ = ChainQuantizer
    # Inductor would turn the convolutions to channels last, and the gradients of the weights back at every pass.
    run = torch.compile(model, options={"layout_optimization": False}) if kind == "compiled" else model
    step = JointStep(model, quantizers, lambda _, b: loss_fn(run, b), candidate_bits=BITS, learning_rate=0.0)
    counter = iter(range(10**9))
    return lambda: step([batch], next(counter), 1.0)


def interleaved(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every function in every round, all of them in each round, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(rounds + 1):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            if torch.get_default_device().type == "cuda":
                torch.cuda.synchronize()
            if index:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def peak_mib(step: Callable[[], object]) -> float:
    """What a step holds at its peak beyond what was there before, in 2**20 bytes, by PyTorch's own count."""
    if torch.get_default_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(held) / 2**20


def zero_training_seconds(samples: int = 256) -> float:
    """Start values of ResNet-50's step sizes at 224x224, from ``samples`` images."""
    model = torchvision.models.resnet50()
    batches = [torch.randn(32, 3, 224, 224) for _ in range(samples // 32)]
    quantizers = insert_quantizers(model, batches[0][:1], candidate_bits=BITS)
    begin = time.perf_counter()
    start_step_sizes(model, quantizers, batches, lambda m, batch: m(batch))
    quantizers.read_indicators("start values")
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=["resnet20", "resnet18"], help="resnet50 for a GPU"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compile", action="store_true", help="torch.compile too; compiling takes minutes")
    parser.add_argument("--statistics", action="store_true", help="zero-training indicators of ResNet-50 too")
    parser.add_argument("--device", default="cpu", help="cpu (default, two threads) or cuda")
    options = parser.parse_args()
    warnings.filterwarnings("error", "Quantizers do without")
    torch.set_num_threads(2)
    torch.set_default_device(options.device)
    console = Console()
    labels = {"chain": "chain", "llt": "llt", **({"compiled": "torch.compile"} if options.compile else {})}
    for name in options.models:
        steps = {kind: joint_step(name, kind) for kind in ("float", *labels)}
        medians = {kind: statistics.median(times) for kind, times in interleaved(steps, options.rounds).items()}
        peaks = {kind: peak_mib(step) for kind, step in steps.items()}
        shape = "x".join(map(str, MODELS[name][1]))
        title = f"{name}, {shape}: {PASSES} passes, medians of {options.rounds} rounds"
        table = Table(title=title, title_justify="left")
        for heading in ("", "ms", f"of {PASSES} floats", "chain / it", "peak MiB", "of chain's"):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        table.add_row("one float pass", f"{1e3 * medians['float']:.1f}", "", "", f"{peaks['float']:.0f}", "")
        for kind, label in labels.items():
            table.add_row(
                label,
                f"{1e3 * medians[kind]:.1f}",
                f"{medians[kind] / medians['float'] / PASSES:.2f}",
                f"{medians['chain'] / medians[kind]:.2f}",
                f"{peaks[kind]:.0f}",
                f"{peaks[kind] / peaks['chain']:.2f}",
            )
        console.print(table)
    if options.statistics:
        console.print(f"Zero-training indicators of ResNet-50 at 224x224, 256 images: {zero_training_seconds():.1f} s")


if __name__ == "__main__":
    main()
