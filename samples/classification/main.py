"""
Image classification from a float model to validated mixed-precision files.

    python samples/classification/main.py --dataset digits --config configs/digits.json --out out/digits

An ordinary NNCF training script; what this algorithm adds to it is marked (1), (2) and (3).
"""

import argparse
import copy
import sys
from pathlib import Path
from typing import Any

import llt_nncf.register  # noqa: F401  (1) registers llt_quantization; before nncf.torch

# isort: split

import torch
from datasets import load_dataset
from models import build_model
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import ValidationReport
from llt_nncf.cost import PolicyCost
from llt_nncf.pipeline import deploy
from llt_nncf.validation import print_report


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--dataset", default="digits", choices=["digits", "fashion-mnist", "cifar10", "imagefolder"])
    parser.add_argument("--data", help="folder of the dataset; digits needs none")
    parser.add_argument("--model", help="digits-cnn, resnet20/32/56, or a torchvision classifier; default by dataset")
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
    return parser.parse_args(arguments)


def train(model: nn.Module, loader: DataLoader, *, epochs: int, lr: float, ctrl: Any = None) -> None:
    """Trains in place; with ``ctrl`` it is NNCF's usual fine-tuning loop."""
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    for _ in range(epochs):
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


def compress(
    model: nn.Module, section: dict[str, Any], options: argparse.Namespace, loaders: dict[str, DataLoader], out: Path
) -> tuple[Any, ValidationReport]:
    """Quantizes a copy of ``model``, fine-tunes it, exports it, and validates the files."""
    compression = {**section["compression"], "artifacts_dir": str(out)}
    sample_size = [1, *next(iter(loaders["test"]))[0].shape[1:]]
    config = NNCFConfig.from_dict({**section, "compression": compression, "input_info": {"sample_size": sample_size}})
    config = register_default_init_args(config, loaders["train"], criterion=nn.CrossEntropyLoss())
    # Without a policy in the config, importance training and search happen in here.
    ctrl, compressed = create_compressed_model(copy.deepcopy(model), config, dump_graphs=False)
    train(compressed, loaders["train"], epochs=options.epochs, lr=options.lr, ctrl=ctrl)
    torch.save({"model": compressed.state_dict(), "compression": ctrl.get_compression_state()}, out / "checkpoint.pt")
    batches = list(loaders["test"])
    images, labels = (torch.cat(part)[: options.validation_samples] for part in zip(*batches, strict=True))
    report = deploy(  # (3) model.onnx, model.xml, report.json, pictures
        ctrl,
        model,
        images,
        labels,
        out,
        min_agreement=options.min_agreement,
        latency_rounds=options.latency_rounds,
    )
    return ctrl, report


def uniform_policy(table: LayerTable, budget: dict[str, Any], found: BitPolicy) -> BitPolicy:
    """The uniform policy to compare with: the one the budget names, or the dearest that costs no more BitOPs."""
    if "bitops_as" in budget:
        return BitPolicy.uniform(table, **{key: int(bits) for key, bits in budget["bitops_as"].items()})
    limit = PolicyCost.from_policy(found, table).bitops
    searched = next(layer for layer in table.layers if not layer.is_fixed)
    uniform = [BitPolicy.uniform(table, weight_bits=bits, activation_bits=bits) for bits in searched.weight_bits]
    return next((p for p in uniform if PolicyCost.from_policy(p, table).bitops <= limit), uniform[-1])


def main(arguments: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Runs everything, prints the table, and returns its figures by row."""
    options = parse(arguments)
    out = Path(options.out)
    torch.manual_seed(options.seed)
    train_set, test_set, info = load_dataset(options.dataset, options.data, image_size=options.image_size)
    generator = torch.Generator().manual_seed(options.seed)
    loaders = {
        "train": DataLoader(train_set, options.batch_size, shuffle=True, drop_last=True, generator=generator),
        "test": DataLoader(test_set, options.batch_size),
    }
    default_model = {"digits": "digits-cnn", "imagefolder": "resnet18"}.get(options.dataset, "resnet20")
    model = build_model(
        options.model or default_model,
        num_classes=info.num_classes,
        in_channels=info.sample_shape[0],
        weights=options.weights,
    )
    if options.weights is None:
        train(model, loaders["train"], epochs=options.float_epochs, lr=options.float_lr)
    section = dict(NNCFConfig.from_json(options.config))
    ctrl, report = compress(model, section, options, loaders, out)
    policy_path = out / "uniform" / "given-policy.json"
    uniform_policy(ctrl.table, section["compression"]["budget"], ctrl.policy).save(policy_path)
    given = {key: value for key, value in section["compression"].items() if key != "indicators"}
    uniform_section = {**section, "compression": {**given, "policy": str(policy_path)}}
    uniform_ctrl, uniform_report = compress(model, uniform_section, options, loaders, out / "uniform")

    console = Console()
    print_report(report, console)
    rows = {
        "float": float_row(report, ctrl.table, out),
        "uniform": quantized_row(uniform_report, uniform_ctrl, out / "uniform"),
        "llt": quantized_row(report, ctrl, out),
    }
    print_rows(rows, console)
    console.print(f"Files: {out}")
    return rows


def float_row(report: ValidationReport, table: LayerTable, out: Path) -> dict[str, Any]:
    """Figures of the float model; its engines are timed only."""
    weights = sum(layer.weight_count for layer in table.layers)
    latency = report.sections.get("latency", {}).get("engines", {})
    return {
        "pytorch_top1": 100 * report.sections["pytorch"]["float_accuracy"],
        "gbitops": sum(layer.macs for layer in table.layers) * 32 * 32 / 1e9,
        "weight_kib": weights * 4 / 1024,
        "file_kib": (out / "float.onnx").stat().st_size / 1024,
        **{f"{engine}_ms": latency[engine]["float_ms"] for engine in ("onnxruntime", "openvino") if engine in latency},
    }


def quantized_row(report: ValidationReport, ctrl: Any, out: Path) -> dict[str, Any]:
    """Figures of a compressed model, of the files in ``out``."""
    cost = PolicyCost.from_policy(ctrl.policy, ctrl.table)
    row = {
        "passed": report.passed,
        "pytorch_top1": 100 * report.sections["pytorch"]["accuracy"],
        "gbitops": cost.gbitops,
        "weight_kib": cost.weight_mib * 1024,
        "file_kib": (out / "model.onnx").stat().st_size / 1024,
    }
    latency = report.sections.get("latency", {}).get("engines", {})
    for engine, figures in report.sections["engines"].items():
        row[f"{engine}_top1"] = 100 * figures["accuracy"]
        row[f"{engine}_agreement"] = 100 * figures["agreement"]
        if engine in latency:
            row[f"{engine}_ms"] = latency[engine]["quantized_ms"]
    return row


def print_rows(rows: dict[str, dict[str, Any]], console: Console) -> None:
    """Prints the final table, a column per model so that it fits into 80 columns."""
    table = Table(title="Float, uniform at the same BitOPs, and learned bits", title_justify="left", title_style="bold")
    for heading in ("", *rows):
        table.add_column(heading, justify="right" if heading else "left")
    lines = [
        ("top-1 %, PyTorch", "pytorch_top1", "{:.2f}"),
        ("top-1 %, ONNX Runtime", "onnxruntime_top1", "{:.2f}"),
        ("top-1 %, OpenVINO", "openvino_top1", "{:.2f}"),
        ("agreement %, ONNX Runtime", "onnxruntime_agreement", "{:.2f}"),
        ("agreement %, OpenVINO", "openvino_agreement", "{:.2f}"),
        ("BitOPs, 1e9", "gbitops", "{:.4g}"),
        ("weights at their bits, KiB", "weight_kib", "{:.1f}"),
        ("ONNX file, KiB", "file_kib", "{:.1f}"),
        ("latency ms, ONNX Runtime", "onnxruntime_ms", "{:.3f}"),
        ("latency ms, OpenVINO", "openvino_ms", "{:.3f}"),
    ]
    for label, key, form in lines:
        table.add_row(label, *(form.format(row[key]) if key in row else "" for row in rows.values()))
    console.print(table)


if __name__ == "__main__":
    results = main()
    sys.exit(0 if results["llt"]["passed"] else 1)
