"""
Classifiers of torchvision with random weights and a random policy, through export and both engines.

All step sizes are made powers of two, so that integer arithmetic has one result. With LLT_MODELS_TABLE=FILE every model
appends its row of the table in docs/models.md to FILE.
"""

import os
import random
from pathlib import Path

import pytest
import torch
import torchvision
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

from llt_nncf.artifacts import BitPolicy
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import record_reference
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight
from llt_nncf.validation import validate

# Model -> pixels: the smallest at which PyTorch can export its pooling, or that leaves it some pixels to work on.
EXACT = {
    "alexnet": 224,
    "vgg11_bn": 224,
    "resnet18": 64,
    "resnet34": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "wide_resnet50_2": 64,
    "mobilenet_v2": 64,
    "mnasnet1_0": 64,
    "shufflenet_v2_x0_5": 64,
    "shufflenet_v2_x1_0": 64,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "regnet_x_400mf": 64,
}
# With functions that every engine computes in its own way: swish, sigmoid, GELU, softmax, layer norms, and batch norms
# that stand in front of a layer.
WITH_FLOATS = {
    "densenet121": 64,
    "regnet_y_400mf": 64,
    "mobilenet_v3_small": 64,
    "mobilenet_v3_large": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "convnext_tiny": 64,
    "vit_b_16": 64,
    "swin_t": 64,
}
NUM_IMAGES, NUM_CLASSES = 8, 100


def make_model(name, pixels):
    torch.manual_seed(0)
    options = {"image_size": pixels} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    model = torchvision.models.get_model(name, weights=None, num_classes=NUM_CLASSES, **options)
    head = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    nn.init.normal_(head.weight, std=0.1)  # Some are initialised to 0, and others to one class for all images.
    with torch.no_grad():
        for _ in range(3):  # Statistics of the batch norms.
            model.train()(torch.randn(NUM_IMAGES, 3, pixels, pixels))
    return model.eval()


def compress(model, pixels, seed):
    images = torch.randn(NUM_IMAGES, 3, pixels, pixels)
    content = {
        "input_info": {"sample_size": [1, 3, pixels, pixels]},
        "compression": {
            "algorithm": "llt_quantization",
            "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
            "importance": {"where": "training"},
            "initializer": {
                "range": {"num_init_samples": NUM_IMAGES},
                "batchnorm_adaptation": {"num_bn_adaptation_samples": NUM_IMAGES},
            },
        },
    }
    loader = DataLoader(TensorDataset(images, torch.zeros(NUM_IMAGES).long()), batch_size=4)
    config = register_default_init_args(NNCFConfig.from_dict(content), loader, criterion=nn.CrossEntropyLoss())
    ctrl, _ = create_compressed_model(model, config, dump_graphs=False)
    choose = random.Random(seed).choice
    activation_bits = {row.activation_group: choose(row.activation_bits) for row in ctrl.table.layers}
    ctrl.apply_policy(
        BitPolicy({r.name: (choose(r.weight_bits), activation_bits[r.activation_group]) for r in ctrl.table.layers})
    )
    return ctrl, images


def make_steps_powers_of_two(frozen, table):
    """Also puts the biases on the grids that follow from that."""
    quantizers = {}
    for module in frozen.modules():
        if isinstance(module, FrozenActivationQuantizer | FrozenWeight):
            module.step_size.copy_(2.0 ** torch.log2(module.step_size).round())
            quantizers[module.name, type(module)] = module
    for layer in frozen.modules():
        for operation in getattr(layer, "pre_ops", {}).values():
            weight = operation.op
            if isinstance(weight, FrozenWeight) and layer.bias is not None:
                group = table.by_name[weight.name].activation_group
                source = quantizers.get((group, FrozenActivationQuantizer))
                if source is not None:
                    grid = source.step_size * weight.step_size.flatten()
                    grid = grid.repeat(layer.bias.numel() // grid.numel())
                    layer.bias.data = (layer.bias / grid).round().clamp(-(2**22), 2**22) * grid


def write_row(cells):
    if path := os.environ.get("LLT_MODELS_TABLE"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("| " + " | ".join(cells) + " |\n")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # Transformers look at sizes.
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize(("name", "pixels"), [*EXACT.items(), *WITH_FLOATS.items()])
def test_engines_agree_with_pytorch(name, pixels, tmp_path):
    ctrl, images = compress(make_model(name, pixels), pixels, seed=name)
    frozen = ctrl.strip()
    make_steps_powers_of_two(frozen, ctrl.table)
    quantizers = {module.name: module for module in frozen.modules() if isinstance(module, FrozenActivationQuantizer)}
    # Quarter steps of the input quantizer: near its ties it counts whether an engine divides or multiplies.
    step_size = quantizers[ctrl.table.layers[0].activation_group].step_size
    images = (images / step_size * 4).round() / 4 * step_size
    reference = record_reference(frozen, images, num_tap_samples=NUM_IMAGES)
    frozen.nncf.disable_dynamic_graph_building()
    path = export_onnx(frozen, images[:1], tmp_path / "model.onnx", policy=ctrl.policy, packed=True)
    xml_path = export_openvino(path, tmp_path / "model.xml", packed=True)
    engines = validate(reference, path, xml_path=xml_path, latency_rounds=0).sections["engines"]

    quantized = [row.name for row in ctrl.table.layers if row.activation_group in quantizers]
    cells = [name, str(pixels), str(len(ctrl.table.layers)), str(len(quantized))]
    assert set(engines) == {"onnxruntime", "openvino"}
    for figures in engines.values():
        apart = figures["layer_by_layer"]
        different = 1 - apart["exact"] / apart["elements"]
        num_integer = sum(kernel["is_integer"] for kernel in figures["kernels"].values())
        cells += [str(num_integer), f"{figures['agreement']:.0%}", "0" if different == 0 else f"{different:.1e}"]
    write_row(cells)
    for figures in engines.values():
        apart = figures["layer_by_layer"]
        if name in EXACT:
            assert (figures["agreement"], figures["max_abs_difference"]) == (1.0, 0.0)
            assert apart["exact"] == apart["elements"]
            assert all(figures["kernels"][layer]["is_integer"] for layer in quantized)
        else:
            assert max(row["max_difference_steps"] for row in apart["quantizers"].values()) <= 1
            assert apart["exact"] > 0.99 * apart["elements"]
