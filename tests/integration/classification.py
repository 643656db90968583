"""
A training script in the shape that NNCF 2's documentation gives: configure, create, train, resume, test, export.

    python classification.py --config config.json --mode train test export --export-model-path model.onnx
    python classification.py --config config.json --resume runs/last.pth

Nothing in it knows of llt_nncf. On a CPU it is deterministic: killed and resumed, it ends as if it had not been.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import openvino as ov
import torch
from nncf import NNCFConfig
from nncf.api.compression import CompressionStage
from nncf.common.utils.tensorboard import prepare_for_tensorboard
from nncf.torch import create_compressed_model
from nncf.torch import load_state
from nncf.torch import register_default_init_args
from sklearn.datasets import load_digits
from torch import Tensor
from torch import distributed
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset
from torch.utils.data.distributed import DistributedSampler
from torch.utils.tensorboard import SummaryWriter


class Net(nn.Module):
    """A stem, a residual block and a classifier for 8x8 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(12)
        self.conv3 = nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(12)
        self.downsample = nn.Conv2d(8, 12, 1, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(x)))))
        x = torch.relu(y + self.downsample(x))
        return self.fc(self.dropout(self.pool(x).flatten(1)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--config", required=True, help="NNCF config in JSON")
    parser.add_argument("--mode", nargs="+", choices=["train", "test", "export"], default=["train"])
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", metavar="PATH", help="checkpoint to go on from, to test or to export")
    start.add_argument("--weights", metavar="PATH", help="state dict of the float model")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=60)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-dir", default="runs", help="folder for checkpoints and logs")
    parser.add_argument("--metrics-dump", metavar="PATH", help="JSON file for the metrics of the last evaluation")
    parser.add_argument("--print-freq", type=int, default=5, metavar="STEPS")
    parser.add_argument("--export-model-path", metavar="PATH", help=".onnx or .xml")
    parser.add_argument("--export-stripped", action="store_true", help="write the .onnx by torch.onnx.export as well")
    parser.add_argument("--dist-url", default="env://", help="where the processes meet; env:// as torchrun sets it")
    parser.add_argument("--world-size", type=int, default=2, help="processes of --multiprocessing-distributed")
    execution = parser.add_mutually_exclusive_group()
    execution.add_argument("--cpu-only", action="store_true", help="one process on the CPU, as by default")
    execution.add_argument("--distributed", action="store_true", help="torchrun has started this process")
    execution.add_argument("--multiprocessing-distributed", action="store_true", help="start the processes here")
    return parser.parse_args(arguments)


def load_data(args: argparse.Namespace) -> tuple[DataLoader, DataLoader]:
    """Returns the loaders for training (shuffled, this process's share) and for testing (all)."""
    images, labels = (torch.tensor(values) for values in load_digits(return_X_y=True))
    images = images.float().view(-1, 1, 8, 8) / 8 - 1
    train, test = TensorDataset(images[:1200], labels[:1200]), TensorDataset(images[1200:], labels[1200:])
    if distributed.is_initialized():
        sampler: DistributedSampler = DistributedSampler(train, seed=args.seed, drop_last=True)
        return DataLoader(train, args.batch_size, sampler=sampler, drop_last=True), DataLoader(test, 200)
    generator = torch.Generator().manual_seed(args.seed)
    return DataLoader(train, args.batch_size, shuffle=True, drop_last=True, generator=generator), DataLoader(test, 200)


def is_main_process() -> bool:
    return not distributed.is_initialized() or distributed.get_rank() == 0


def write_whole(path: Path, write: Any) -> None:
    """Under another name first, so that whoever is killed here leaves the old file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader) -> dict[str, float]:
    model.eval()
    outputs = [(model(images), target) for images, target in loader]
    logits, target = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    top1 = (logits.argmax(1) == target).float().mean()
    return {"loss": nn.functional.cross_entropy(logits, target).item(), "top1": 100 * top1.item()}


def train_epoch(model: nn.Module, ctrl: Any, loader: DataLoader, optimizer: Any, epoch: int, print_freq: int) -> None:
    model.train()
    criterion = nn.CrossEntropyLoss()
    for index, (images, target) in enumerate(loader):
        ctrl.scheduler.step()
        optimizer.zero_grad()
        loss = criterion(model(images), target) + ctrl.loss()
        loss.backward()
        optimizer.step()
        if is_main_process() and index % print_freq == 0:
            print(f"epoch {epoch}, step {index} of {len(loader)}: loss {loss.item():.4f}", flush=True)


def train(args: argparse.Namespace, model: nn.Module, ctrl: Any, loaders: Any, checkpoint: dict[str, Any]) -> None:
    train_loader, test_loader = loaders
    parallel = nn.parallel.DistributedDataParallel(model) if distributed.is_initialized() else model
    optimizer = torch.optim.SGD(parallel.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    if checkpoint:
        optimizer.load_state_dict(checkpoint["optimizer"])
        lr_scheduler.load_state_dict(checkpoint["lr_scheduler"])
        torch.set_rng_state(checkpoint["rng"])
        if train_loader.generator is not None:
            train_loader.generator.set_state(checkpoint["loader_generator"])
    board = SummaryWriter(Path(args.log_dir) / "tensorboard") if is_main_process() else None
    for epoch in range(checkpoint.get("epoch", 0), args.epochs):
        ctrl.scheduler.epoch_step()
        if isinstance(train_loader.sampler, DistributedSampler):
            train_loader.sampler.set_epoch(epoch)
        train_epoch(parallel, ctrl, train_loader, optimizer, epoch, args.print_freq)
        lr_scheduler.step()
        metrics = evaluate(model, test_loader)
        if board is None:
            continue
        statistics = ctrl.statistics()
        for key, value in prepare_for_tensorboard(statistics).items():
            board.add_scalar(f"compression/{key}", value, epoch)
        board.add_scalar("top1", metrics["top1"], epoch)
        print(f"epoch {epoch} done: top-1 {metrics['top1']:.2f} %, {ctrl.compression_stage().name}", flush=True)
        generator = train_loader.generator
        content = {
            "epoch": epoch + 1,
            "state_dict": model.state_dict(),
            "compression_state": ctrl.get_compression_state(),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": lr_scheduler.state_dict(),
            "rng": torch.get_rng_state(),
            "loader_generator": None if generator is None else generator.get_state(),
        }
        write_whole(Path(args.log_dir) / "last.pth", lambda path, content=content: torch.save(content, path))
    if board is not None:
        print(ctrl.statistics().to_str())
        board.close()


def export(args: argparse.Namespace, ctrl: Any) -> None:
    """By the controller, and by what NNCF's documentation does with a stripped model."""
    path = Path(args.export_model_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".onnx" and not args.export_stripped:
        ctrl.export_model(str(path))
        return
    stripped = ctrl.strip().eval().cpu()
    example = torch.zeros(1, 1, 8, 8)
    if path.suffix == ".onnx":
        # Not by dynamo, which cannot trace the models of create_compressed_model.
        torch.onnx.export(stripped, (example,), path, dynamo=False)
    else:
        ov.save_model(ov.convert_model(stripped, example_input=example), path, compress_to_fp16=False)


def work(rank: int, args: argparse.Namespace) -> None:
    if args.multiprocessing_distributed:
        distributed.init_process_group("gloo", init_method=args.dist_url, rank=rank, world_size=args.world_size)
    elif args.distributed:
        distributed.init_process_group("gloo")
    torch.manual_seed(args.seed)
    loaders = load_data(args)
    model = Net()
    if args.weights is not None:
        model.load_state_dict(torch.load(args.weights))
    config = NNCFConfig.from_json(args.config)
    config["log_dir"] = args.log_dir
    config = register_default_init_args(config, loaders[0], criterion=nn.CrossEntropyLoss())
    # NNCF's algorithms keep a class in their state, and torch.load takes none that it was not told of.
    with torch.serialization.safe_globals([CompressionStage]):
        checkpoint = {} if args.resume is None else torch.load(args.resume)
    state = checkpoint.get("compression_state")
    ctrl, model = create_compressed_model(model, config, compression_state=state, dump_graphs=False)
    if checkpoint:
        load_state(model, checkpoint["state_dict"], is_resume=True)
    if distributed.is_initialized():
        ctrl.distributed()
    if "train" in args.mode:
        train(args, model, ctrl, loaders, checkpoint)
    if "test" in args.mode and is_main_process():
        metrics = evaluate(model, loaders[1])
        print(f"test: loss {metrics['loss']:.6f}, top-1 {metrics['top1']:.2f} %")
        if args.metrics_dump is not None:
            write_whole(Path(args.metrics_dump), lambda path: path.write_text(json.dumps(metrics)))
    if "export" in args.mode and is_main_process():
        export(args, ctrl)
    if distributed.is_initialized():
        distributed.destroy_process_group()


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if args.multiprocessing_distributed:
        torch.multiprocessing.spawn(work, args=(args,), nprocs=args.world_size)
    else:
        work(0, args)


if __name__ == "__main__":
    main()
