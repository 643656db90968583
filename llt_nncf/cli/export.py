"""``llt-nncf export --model models.py:resnet20 --config config.json --checkpoint checkpoint.pt``"""

import argparse
import copy
from pathlib import Path

import llt_nncf.register  # noqa: F401  (before nncf.torch is imported)

# isort: split

import torch
from torch import Tensor

from llt_nncf.adapter.restore import restore
from llt_nncf.errors import ArtifactError
from llt_nncf.pipeline import deploy
from llt_nncf.pipeline.model_factory import TORCHVISION
from llt_nncf.pipeline.model_factory import make_model
from llt_nncf.validation import print_report
from llt_nncf.validation.sample_data import SampleData


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="FILE.py:FACTORY",
        help="function that returns the float model, trained if its accuracy is to be compared (the file is run); or "
        "torchvision:NAME",
    )
    parser.add_argument("--config", required=True, type=Path, help="NNCF JSON config that the model was trained with")
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        help='{"model": state_dict, "compression": get_compression_state()}, or the same by the names "state_dict" and '
        '"compression_state", saved by torch.save',
    )
    parser.add_argument(
        "--data",
        type=Path,
        help=".npz with inputs, in floats, and, if known, labels; random inputs (standard normal) without it",
    )
    parser.add_argument("--out", type=Path, default=Path("exported"), help="folder of the files (default exported)")
    parser.add_argument(
        "--pack",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="store weights at their bits instead of a byte each (default)",
    )
    parser.add_argument("--opset", type=int, help="ONNX opset (default: the lowest that does)")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (default 0)")
    parser.add_argument("--num-samples", type=int, default=256, help="samples to validate on, at most (default 256)")
    parser.add_argument("--min-agreement", type=float, default=0.99, help="least share of equal top-1 (default 0.99)")
    parser.add_argument("--latency-rounds", type=int, default=50, help="interleaved timing rounds, 0 for none")
    parser.add_argument(
        "--post-training",
        action="store_true",
        help="have NNCF quantize the float model to int8 without training, too, and compare latencies",
    )


def run(options: argparse.Namespace) -> int:
    """Exports, validates, prints the report, and returns 1, with no file left, if it did not pass."""
    if options.num_samples < 1:
        msg = f"--num-samples {options.num_samples}: give at least 1."
        raise ArtifactError(msg)
    float_model = make_model(options.model)
    inputs, labels = (None, None) if options.data is None else _load_samples(options.data, options.num_samples)
    controller = restore(
        copy.deepcopy(float_model),
        options.config,
        options.checkpoint,
        input_shape=None if inputs is None else [1, *inputs.shape[1:]],
    )
    shape = controller.config["input_info"]["sample_size"][1:]
    remarks = []
    if inputs is None:
        generator = torch.Generator().manual_seed(options.seed)
        inputs = torch.randn(options.num_samples, *shape, generator=generator)
        remarks.append(
            f"Validated on {options.num_samples} random inputs (standard normal, seed {options.seed}), not on data."
        )
    elif list(inputs.shape[1:]) != list(shape):
        msg = f"{options.data}: inputs of shape {list(inputs.shape[1:])}; the config's input_info has {list(shape)}."
        raise ArtifactError(msg)
    if options.model.startswith(TORCHVISION) and labels is not None:
        remarks.append("The float model is torchvision's with random weights: its accuracy says nothing.")
    report = deploy(
        controller,
        float_model,
        inputs,
        labels,
        options.out,
        packed=options.pack,
        opset=options.opset,
        min_agreement=options.min_agreement,
        latency_rounds=options.latency_rounds,
        post_training=options.post_training,
        remarks=remarks,
    )
    print_report(report)
    print(f"Files: {options.out}" if report.passed else "No file was written.")
    return 0 if report.passed else 1


def _load_samples(path: Path, count: int) -> tuple[Tensor, Tensor | None]:
    data = SampleData(path)
    inputs, labels = next(data.batches(count))
    if labels is not None:
        data.check_classes(labels)
    return torch.from_numpy(inputs), None if labels is None else torch.from_numpy(labels)
