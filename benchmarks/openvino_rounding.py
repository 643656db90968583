"""
What the .xml's guarded roundings cost: latency of the exported IR against the ONNX file read by OpenVINO itself.

    python benchmarks/openvino_rounding.py resnet18 mobilenet_v2

Random weights, 6-bit budget, one 224x224 image, one thread; both run in turn, medians and their ratio are printed.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import llt_nncf.register  # noqa: F401

# isort: split

import torch
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset
from torchvision.models import get_model

from llt_nncf.export import export_openvino
from llt_nncf.validation.runners import OpenVinoRunner

ROUNDS = 100
SHAPE = (1, 3, 224, 224)


def measure(name: str, folder: Path) -> dict[str, float]:
    """Returns the median latency of each file in milliseconds."""
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(4, *SHAPE[1:]), torch.arange(4)), batch_size=4)
    section = {
        "algorithm": "llt_quantization",
        "budget": {"bitops_as": {"weight_bits": 6, "activation_bits": 6}},
        "importance": {"max_steps": 1, "learning_rate": 1e-6},
        "initializer": {"range": {"num_init_samples": 4}, "batchnorm_adaptation": {"num_bn_adaptation_samples": 4}},
    }
    config = NNCFConfig.from_dict({"input_info": {"sample_size": list(SHAPE)}, "compression": section})
    config = register_default_init_args(config, loader, criterion=nn.CrossEntropyLoss())
    ctrl, _ = create_compressed_model(get_model(name, weights=None), config, dump_graphs=False)
    ctrl.export_model(str(folder / "model.onnx"))
    export_openvino(folder / "model.onnx", folder / "model.xml")
    runners = {kind: OpenVinoRunner(folder / f"model.{kind}", input_shape=SHAPE) for kind in ("onnx", "xml")}
    times: dict[str, list[float]] = {kind: [] for kind in runners}
    image = torch.randn(SHAPE).numpy()
    for _ in range(ROUNDS):
        for kind, runner in runners.items():
            begin = time.perf_counter()
            runner.run(image)
            times[kind].append(1e3 * (time.perf_counter() - begin))
    return {kind: statistics.median(values[ROUNDS // 10 :]) for kind, values in times.items()}


if __name__ == "__main__":
    for model_name in sys.argv[1:] or ["resnet18", "mobilenet_v2"]:
        with tempfile.TemporaryDirectory() as temporary:
            medians = measure(model_name, Path(temporary))
        onnx_ms, xml_ms = medians["onnx"], medians["xml"]
        print(f"{model_name}: onnx {onnx_ms:.2f} ms, xml {xml_ms:.2f} ms, ratio {xml_ms / onnx_ms:.3f}")
