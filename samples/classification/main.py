"""
Image classification from a float model to validated mixed-precision files.

    python samples/classification/main.py --dataset digits --config configs/digits.json --out out/digits

An ordinary NNCF training script; what this algorithm adds to it is marked (1), (2) and (3).
"""

import argparse
import copy
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import llt_nncf.register  # noqa: F401  (1) registers llt_quantization; before nncf.torch

# isort: split

import torch
from checkpoint import Checkpoint
from comparison import float_row
from comparison import print_rows
from comparison import quantized_row
from comparison import uniform_policy
from config_file import load_config
from datasets import DATASETS
from datasets import evenly_spread
from datasets import load_dataset
from models import build_model
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor
from torch import nn
from torch.utils.data import DataLoader

from llt_nncf.artifacts import ValidationReport
from llt_nncf.artifacts import write_atomically
from llt_nncf.errors import LltError
from llt_nncf.pipeline import deploy
from llt_nncf.validation import print_report

# NNCF says at each call that create_compressed_model is deprecated; NNCF 3 has nothing in its place.
warnings.filterwarnings("ignore", "The 'nncf.torch", FutureWarning)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--dataset", default="digits", choices=DATASETS)
    parser.add_argument("--data", help="folder of the dataset; digits needs none")
    parser.add_argument(
        "--model",
        help="digits-cnn, resnet20/32/56, mobilenet_v1(_cifar), or a torchvision classifier; default by dataset",
    )
    parser.add_argument(
        "--weights", help="a .safetensors file, or 'torchvision'; without it the model is trained first"
    )
    parser.add_argument("--config", default="configs/digits.json", help="NNCF JSON config")
    parser.add_argument("--out", default="out/digits", help="folder for everything that is written")
    parser.add_argument(
        "--float-epochs", type=int, default=30, help="epochs of float training, if there are no weights"
    )
    parser.add_argument("--epochs", type=int, default=30, help="epochs of fine-tuning with the chosen bits")
    parser.add_argument("--float-lr", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=0.02, help="learning rate of fine-tuning, at the start of a cosine")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, help="of imagefolder; default 224")
    parser.add_argument("--validation-samples", type=int, default=1000, help="test samples that the engines are run on")
    parser.add_argument("--latency-rounds", type=int, default=50)
    parser.add_argument("--min-agreement", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from what a run with the same --out has left")
    options = parser.parse_args(arguments)
    if options.model is None:
        options.model = {"digits": "digits-cnn", "imagefolder": "resnet18"}.get(options.dataset, "resnet20")
    return options


def make_checkpoints(options: argparse.Namespace, section: dict[str, Any]) -> list[Checkpoint]:
    """All at once: what an older run has left shall not be gone on from, however far this one comes."""

    def settings(*own: str) -> dict[str, Any]:
        names = ("dataset", "model", "image_size", "batch_size", "seed", *own)
        return {f"--{name.replace('_', '-')}": getattr(options, name) for name in names}

    stages = {"float.pt": settings("float_epochs", "float_lr")}
    for name in ("checkpoint.pt", "uniform/checkpoint.pt"):
        stages[name] = {**settings("weights", "epochs", "lr"), "compression": section["compression"]}
    return [Checkpoint(Path(options.out) / name, resume=options.resume, settings=own) for name, own in stages.items()]


def train(
    model: nn.Module, loader: DataLoader, checkpoint: Checkpoint, *, epochs: int, lr: float, ctrl: Any = None
) -> None:
    """Trains in place; with ``ctrl`` it is NNCF's usual fine-tuning loop."""
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    for epoch in range(checkpoint.restore(model, loader, optimizer, schedule), epochs):
        model.train()
        if ctrl is not None:
            ctrl.scheduler.epoch_step()
        for images, target in loader:
            optimizer.zero_grad()
            for _ in ctrl.policies() if ctrl is not None else [None]:  # (2) several passes while indicators are trained
                loss = criterion(model(images), target)
                if ctrl is not None:
                    loss = loss + ctrl.loss()
                loss.backward()
            optimizer.step()
            schedule.step()
            if ctrl is not None:
                ctrl.scheduler.step()
        if (epoch + 1) % max(1, epochs // 3) == 0:
            print(f"  epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}")
        checkpoint.save(epoch + 1, model, loader, optimizer, schedule, ctrl)


def compress(
    model: nn.Module,
    section: dict[str, Any],
    options: argparse.Namespace,
    train_loader: DataLoader,
    validation: tuple[Tensor, Tensor],
    out: Path,
    checkpoint: Checkpoint,
) -> tuple[Any, ValidationReport]:
    """Quantizes a copy of ``model``, fine-tunes it, exports it, and validates the files."""
    compression = {**section["compression"], "artifacts_dir": str(out)}
    sample_size = [1, *validation[0].shape[1:]]
    config = NNCFConfig.from_dict({**section, "compression": compression, "input_info": {"sample_size": sample_size}})
    config = register_default_init_args(config, train_loader, criterion=nn.CrossEntropyLoss())
    # Without a policy in the config, importance training and search happen in here.
    ctrl, compressed = create_compressed_model(
        copy.deepcopy(model), config, compression_state=checkpoint.compression_state, dump_graphs=False
    )
    train(compressed, train_loader, checkpoint, epochs=options.epochs, lr=options.lr, ctrl=ctrl)
    report = deploy(  # (3) model.onnx, model.xml, report.json, pictures; none of them if the validation fails
        ctrl,
        model,
        *validation,
        out,
        min_agreement=options.min_agreement,
        latency_rounds=options.latency_rounds,
    )
    return ctrl, report


def main(arguments: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Runs everything, prints the table, and returns its figures by row."""
    options = parse(arguments)
    out, section = Path(options.out), load_config(options.config)
    of_float, of_learned, of_uniform = make_checkpoints(options, section)
    torch.manual_seed(options.seed)
    train_set, test_set, info = load_dataset(options.dataset, options.data, image_size=options.image_size)
    generator = torch.Generator().manual_seed(options.seed)
    train_loader = DataLoader(train_set, options.batch_size, shuffle=True, drop_last=True, generator=generator)
    chosen = evenly_spread(test_set, options.validation_samples)
    validation = next(iter(DataLoader(chosen, batch_size=len(chosen))))
    shape = {"num_classes": info.num_classes, "in_channels": info.sample_shape[0]}
    model = build_model(options.model, **shape, weights=options.weights)
    if options.weights is None:
        print("Float model")
        train(model, train_loader, of_float, epochs=options.float_epochs, lr=options.float_lr)
        write_atomically(out / "float.safetensors", partial(save_file, model.state_dict()))  # for --weights
    print("Learned bits: importance training, search, fine-tuning, export")
    ctrl, report = compress(model, section, options, train_loader, validation, out, of_learned)
    rows = {"float": float_row(report, ctrl.table, out)}
    console = Console()
    print_report(report, console)
    uniform = uniform_policy(ctrl.table, section["compression"].get("budget", {}), ctrl.policy)
    if uniform is None:
        print("No uniform bits to compare with: none that all layers may have cost as little")
    else:
        policy_path = uniform.save(out / "uniform" / "given-policy.json")
        given = {key: value for key, value in section["compression"].items() if key != "indicators"}
        uniform_section = {**section, "compression": {**given, "policy": str(policy_path)}}
        print("Uniform bits: fine-tuning, export")
        uniform_run = compress(model, uniform_section, options, train_loader, validation, out / "uniform", of_uniform)
        rows["uniform"] = quantized_row(*uniform_run, out / "uniform")
        if not uniform_run[1].passed:
            print_report(uniform_run[1], console)
    rows["llt"] = quantized_row(ctrl, report, out)
    print_rows(rows, console)
    console.print(f"Files: {out}")
    return rows


if __name__ == "__main__":
    try:
        results = main()
    except (LltError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.exit(0 if results["llt"]["passed"] else 1)
