"""
The paper's recipes for ImageNet, from a float model to validated mixed-precision files.

    python samples/imagenet/main.py --config configs/imagenet/resnet18_w3a3.json --dry-run

The config holds the whole recipe: model, batch size, epochs, optimizer and label smoothing stand beside the compression
section, where NNCF passes over them. Started by torchrun, the processes share every batch.
"""

import argparse
import copy
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import llt_nncf.register  # noqa: F401  before nncf.torch

sys.path.append(str(Path(__file__).parents[1] / "classification"))

# isort: split

import nncf
import torch
import torchvision
from checkpoint import Checkpoint
from datasets import evenly_spread
from datasets import load_dataset
from dry_run import CLASSES
from dry_run import TimedLoss
from dry_run import print_recipe
from dry_run import random_images
from dry_run import shortened
from finetuning import evaluate
from finetuning import finetune
from models import build_model
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from rich.console import Console
from torch import distributed
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset
from torch.utils.data import DistributedSampler
from torch.utils.data import Subset

from llt_nncf.pipeline import deploy
from llt_nncf.validation import print_report

# NNCF says at each call that create_compressed_model is deprecated; NNCF 3 has nothing in its place.
warnings.filterwarnings("ignore", "The 'nncf.torch", FutureWarning)

RANK, RANKS = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))  # torchrun sets them

RECIPE = ("model", "input_info", "batch_size", "epochs", "optimizer", "label_smoothing", "compression")
OPTIMIZER = ("learning_rate", "momentum", "weight_decay", "warmup_epochs")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--config", required=True, help="a recipe of configs/imagenet")
    parser.add_argument("--data", help="folder with train/CLASS/ and val/CLASS/")
    parser.add_argument("--weights", help="of the float model: a .safetensors file, or 'torchvision'")
    parser.add_argument("--out", help="folder for everything that is written; default out/NAME_OF_CONFIG")
    parser.add_argument("--workers", type=int, default=8, help="processes that load images, for each rank")
    parser.add_argument("--validation-samples", type=int, default=1000, help="images that the exported files run on")
    parser.add_argument("--latency-rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from what a run with the same --out has left")
    parser.add_argument("--dry-run", action="store_true", help="two steps of each stage on random images; no files")
    parser.add_argument("--dry-batch", type=int, default=2, help="images in a batch of the dry run")
    options = parser.parse_args(arguments)
    if not options.dry_run and None in (options.data, options.weights):
        parser.error("--data and --weights are needed, unless it is a --dry-run")
    if options.dry_run and RANKS > 1:
        parser.error("a --dry-run is one process; start it by python")
    options.out = Path(options.out or f"out/{Path(options.config).stem}")
    return options


def load_recipe(path: str) -> dict[str, Any]:
    """Reads the config; NNCF checks its own keys, and here is seen that those of the recipe are there."""
    recipe = dict(NNCFConfig.from_json(path))
    missing = [key for key in RECIPE if key not in recipe]
    missing += [f"optimizer.{key}" for key in OPTIMIZER if key not in recipe.get("optimizer", {})]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; see the recipes of configs/imagenet.")
    return recipe


def start_process() -> torch.device:
    """Joins the other ranks, if there are any, and returns this one's device."""
    has_cuda = torch.cuda.is_available()
    if RANKS > 1:
        distributed.init_process_group("nccl" if has_cuda else "gloo")
    if not has_cuda:
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cuda", torch.cuda.current_device())


def make_loaders(train: Dataset, val: Dataset, *, batch_size: int, seed: int, workers: int) -> tuple[Any, Any]:
    """Loaders of this rank's share: of the training images, shuffled by seed and epoch, and of the others."""
    size, more = max(1, batch_size // RANKS), {"num_workers": workers, "pin_memory": torch.cuda.is_available()}
    sampler: DistributedSampler = DistributedSampler(train, RANKS, RANK, seed=seed, drop_last=True)
    generator = torch.Generator().manual_seed(seed + RANK)
    train_loader = DataLoader(train, size, sampler=sampler, drop_last=True, generator=generator, **more)
    return train_loader, DataLoader(Subset(val, range(RANK, len(val), RANKS)), size, **more)


def compress(
    float_model: nn.Module,
    loaders: Any,
    criterion: nn.Module,
    recipe: dict[str, Any],
    out: Path,
    checkpoint: Checkpoint,
) -> tuple[Any, float]:
    """Importance training, search and fine-tuning of a copy of the model, whose device it keeps."""
    section = {**recipe["compression"], "artifacts_dir": str(out)}
    config = NNCFConfig.from_dict({**recipe, "compression": section})
    config = register_default_init_args(config, loaders[0], criterion=criterion)
    ctrl, model = create_compressed_model(
        copy.deepcopy(float_model), config, compression_state=checkpoint.compression_state, dump_graphs=False
    )
    if distributed.is_initialized():
        ctrl.distributed()
    return ctrl, finetune(ctrl, model, loaders, criterion, recipe, checkpoint)


def dry_run(recipe: dict[str, Any], options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Two steps of both stages on noise; prints and returns what the whole recipe costs."""
    nncf.set_log_level(logging.WARNING)  # its table of the policy would stand beside ours
    print(f"Dry run: two steps of either stage, {options.dry_batch} images of noise in each")
    short, criterion = shortened(recipe, options.dry_batch), TimedLoss(recipe["label_smoothing"])
    noise = random_images(short)
    model = build_model(recipe["model"], num_classes=CLASSES, in_channels=3, weights=options.weights).to(device)
    loaders = make_loaders(noise, noise, batch_size=options.dry_batch, seed=options.seed, workers=0)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "checkpoint.pt", resume=False, settings={})
        ctrl, _ = compress(model, loaders, criterion, short, Path(folder), checkpoint)
    console = Console(highlight=False)
    rows = print_recipe(ctrl, recipe, criterion.calls, options.dry_batch, console)
    command = f"torchrun --nproc-per-node GPUS samples/imagenet/main.py --config {options.config} --data IMAGENET"
    weights = "torchvision" if hasattr(torchvision.models, recipe["model"]) else "WEIGHTS.safetensors"
    console.print(f"The whole recipe: {command} --weights {weights} --out {options.out}", soft_wrap=True)
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs everything, and returns the top-1 accuracies and the report; or the cost, of a dry run."""
    options = parse(arguments)
    device = start_process()
    torch.manual_seed(options.seed)
    recipe = load_recipe(options.config)
    if options.dry_run:
        return dry_run(recipe, options, device)
    settings = {key: recipe[key] for key in RECIPE} | {"--weights": options.weights, "--seed": options.seed}
    checkpoint = Checkpoint(options.out / "checkpoint.pt", resume=options.resume, settings=settings)
    form = {"image_size": recipe["input_info"]["sample_size"][-1], "normalization": recipe.get("normalization")}
    train_set, val_set, info = load_dataset("imagefolder", options.data, **form)
    how = {"batch_size": recipe["batch_size"], "seed": options.seed, "workers": options.workers}
    loaders = make_loaders(train_set, val_set, **how)
    float_model = build_model(recipe["model"], num_classes=info.num_classes, in_channels=3, weights=options.weights)
    float_model.to(device)
    result: dict[str, Any] = {"float_top1": evaluate(float_model, loaders[1])}
    if RANK == 0:
        print(f"Float model: top-1 {result['float_top1']:.2f} %")
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe["label_smoothing"])
    ctrl, result["top1"] = compress(float_model, loaders, criterion, recipe, options.out, checkpoint)
    if distributed.is_initialized():
        distributed.destroy_process_group()
    if RANK == 0:
        chosen = evenly_spread(val_set, options.validation_samples)
        images = next(iter(DataLoader(chosen, batch_size=len(chosen))))
        result["report"] = deploy(ctrl, float_model.cpu(), *images, options.out, latency_rounds=options.latency_rounds)
        print_report(result["report"], Console())
    return result


if __name__ == "__main__":
    results = main()
    sys.exit(1 if "report" in results and not results["report"].passed else 0)
