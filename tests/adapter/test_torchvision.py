"""
Classifiers of torchvision with random weights and a random policy, through export and both engines.

All step sizes are made powers of two, so that integer arithmetic has one result. With LLT_MODELS_TABLE=FILE every model
appends its row of the table in docs/models.md to FILE.
"""

import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino as ov
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
from llt_nncf.functional import integer_range
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner

# Model -> pixels: the smallest at which PyTorch can export its pooling, or that leaves it some pixels to work on.
EXACT = {
    "alexnet": 224,
    "vgg11_bn": 224,
    "resnet18": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "wide_resnet50_2": 64,
    "mobilenet_v2": 64,
    "mnasnet1_0": 64,
    "shufflenet_v2_x1_0": 64,
    "squeezenet1_1": 64,
    "densenet121": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "regnet_x_400mf": 64,
}
# With functions that every engine approximates in its own way: swish, sigmoid, GELU, softmax, layer norms.
WITH_FLOATS = {
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


def run_pytorch(frozen, images):
    """Returns the outputs, and the uint8 codes of every call of a quantizer."""
    codes, calls = {}, Counter()

    def record(quantizer, arguments, _):
        low, high = integer_range(quantizer.num_bits, signed=quantizer.signed)
        name = quantizer.name if not calls[quantizer.name] else f"{quantizer.name}#{calls[quantizer.name]}"
        calls[quantizer.name] += 1
        found = np.clip(np.rint(arguments[0].numpy() / quantizer.step_size.numpy()), low, high)
        codes[name] = (found + 128 * quantizer.signed).astype(np.uint8)

    modules = [module for module in frozen.modules() if isinstance(module, FrozenActivationQuantizer)]
    hooks = [module.register_forward_hook(record) for module in modules]
    with torch.no_grad():
        outputs = frozen(images).numpy()
    for hook in hooks:
        hook.remove()
    return outputs, codes


def fed_apart(path, shapes):
    """Returns the model with every reader of ``<quantizer>/codes`` reading an input ``fed/<quantizer>`` instead."""
    proto = onnx.load_from_string(ExportedModel(path).with_taps())
    tensors = {f"{name}/codes": f"fed/{name}" for name in shapes}
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name in tensors:
                node.input[index] = tensors[name]
    for name, shape in shapes.items():
        value = onnx.helper.make_tensor_value_info(f"fed/{name}", onnx.TensorProto.UINT8, shape)
        proto.graph.input.append(value)
    return proto.SerializeToString()


def run_fed_apart(engine, model, feed, names):
    if engine is OnnxRuntimeRunner:
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(names, feed)
    compiled = ov.Core().compile_model(ov.Core().read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(feed)
    return [results[name] for name in names]


def share_different(found, wanted):
    """The share of codes that differ, and by how many steps at most."""
    steps = [np.abs(found[name].astype(int).ravel() - codes.ravel()) for name, codes in wanted.items()]
    return sum(int((s > 0).sum()) for s in steps) / sum(s.size for s in steps), max(int(s.max()) for s in steps)


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
    outputs, codes = run_pytorch(frozen, images)
    frozen.nncf.disable_dynamic_graph_building()
    path = export_onnx(frozen, images[:1], tmp_path / "model.onnx")
    xml_path = export_openvino(path, tmp_path / "model.xml")

    layers = [layer.name for layer in ctrl.table.layers]
    with_quantized_input = [row.name for row in ctrl.table.layers if row.activation_group in quantizers]
    cells = [name, str(pixels), str(len(layers)), str(len(with_quantized_input))]
    exported = ExportedModel(path)
    taps = exported.tap_outputs()
    assert set(taps) == set(codes)
    found = OnnxRuntimeRunner(exported.with_taps()).run_outputs(images.numpy(), list(taps.values()))
    shapes = {tap: array.shape for tap, array in zip(taps, found, strict=True)}
    feed = {"input": images.numpy()}
    feed |= {f"fed/{tap}": np.ascontiguousarray(codes[tap].reshape(shape)) for tap, shape in shapes.items()}
    figures = []
    for engine, file in ((OnnxRuntimeRunner, path), (OpenVinoRunner, xml_path)):
        runner = engine(file)
        found = runner.run(images.numpy())
        num_integer = sum(is_integer for _, is_integer in runner.kernels(layers).values())
        apart = run_fed_apart(engine, fed_apart(path, shapes), feed, list(taps.values()))
        different, steps = share_different(dict(zip(taps, apart, strict=True)), codes)
        agreement = float((found.argmax(1) == outputs.argmax(1)).mean())
        figures.append((agreement, float(np.abs(found - outputs).max()), different, steps))
        cells += [str(num_integer), f"{agreement:.0%}", "0" if different == 0 else f"{different:.1e}"]
    write_row(cells)
    for agreement, difference, different, steps in figures:
        if name in EXACT:
            assert (agreement, difference, different) == (1.0, 0.0, 0.0)
        else:
            assert steps <= 1
            assert different < 0.01
