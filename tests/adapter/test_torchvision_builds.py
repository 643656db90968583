"""
Classifiers of torchvision with random weights, built with the default config: nothing is left out unnoticed.

With LLT_MODELS_TABLE=FILE every model appends its row of the table in docs/models.md to FILE.
"""

import math
import time
from fnmatch import fnmatch

import pytest
import torch
import torchvision
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

from tests.adapter.test_torchvision import write_row

SMALL = 64
# Other pixels: what the auxiliary head needs in training, and the windows.
PIXELS = {"inception_v3": 299, "maxvit_t": 224}
# Patterns of the names of layers whose weights NNCF does not quantize: auxiliary heads run in training alone;
# functions read the others (nn.MultiheadAttention's own, shifted_window_attention).
IN_FLOAT = {
    "googlenet": ("aux*",),
    "inception_v3": ("AuxLogits*",),
    "vit_b_16": ("*.self_attention.out_proj",),
    "vit_b_32": ("*.self_attention.out_proj",),
    "swin_t": ("*.attn.qkv", "*.attn.proj"),
    "swin_s": ("*.attn.qkv", "*.attn.proj"),
    "swin_v2_t": ("*.attn.qkv", "*.attn.proj"),
}
# Layers whose input is in float, and how many these are: depthwise ones behind the sum of a block, so not in the first
# block of a stage, and the first one of those that compute the biases of positions from a constant.
FLOAT_INPUT = {
    "convnext_tiny": ("features.?.*.block.0", 18 - 4),
    "convnext_small": ("features.?.*.block.0", 36 - 4),
    "swin_v2_t": ("*.attn.cpb_mlp.0", 12),
}
# Quantizers that stand at several places, in front of concatenations: of Fire modules; of the branches of 9 and 11
# blocks, but for the last ones, which are averaged, or where a pooled branch hands on what was joined;
# those of the blocks of one stage of ShuffleNet are one.
UNIFIED = {"googlenet": 8, "inception_v3": 8, "squeezenet1_0": 8, "squeezenet1_1": 8}
UNIFIED |= {f"shufflenet_v2_x{width}": 3 for width in ("0_5", "1_0", "1_5", "2_0")}
NAMES = (
    *("alexnet", "vgg11", "vgg11_bn", "vgg16_bn", "vgg19"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2"),
    *("densenet121", "densenet161", "densenet169", "densenet201"),
    *("googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1"),
    *("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
    *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4"),
    *("efficientnet_v2_s", "efficientnet_v2_m"),
    *("regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf", "regnet_y_400mf", "regnet_y_800mf", "regnet_y_1_6gf"),
    *("convnext_tiny", "convnext_small", "vit_b_16", "vit_b_32", "swin_t", "swin_s", "swin_v2_t", "maxvit_t"),
)


def make_model(name, pixels):
    torch.manual_seed(0)
    options = {"image_size": pixels} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = True
    return torchvision.models.get_model(name, weights=None, num_classes=100, **options)


def compress(model, pixels):
    content = {
        "input_info": {"sample_size": [1, 3, pixels, pixels]},
        "compression": {
            "algorithm": "llt_quantization",
            "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
            "importance": {"indicator": "statistics"},
            "initializer": {
                "range": {"num_init_samples": 2},
                "batchnorm_adaptation": {"num_bn_adaptation_samples": 2},
            },
        },
    }
    loader = DataLoader(TensorDataset(torch.randn(2, 3, pixels, pixels), torch.zeros(2).long()), batch_size=2)
    config = register_default_init_args(NNCFConfig.from_dict(content), loader, criterion=nn.CrossEntropyLoss())
    return create_compressed_model(model, config, dump_graphs=False)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_layer_is_in_the_table_or_known_to_be_left_out(name):
    pixels = PIXELS.get(name, SMALL)
    model = make_model(name, pixels)
    kinds = nn.modules.conv._ConvNd | nn.Linear
    layers = [module_name for module_name, module in model.named_modules() if isinstance(module, kinds)]
    weight_count = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1)
    start = time.perf_counter()
    ctrl = compress(model, pixels)
    seconds = time.perf_counter() - start

    table = ctrl.table
    left_out = {layer for layer in layers if layer not in table.by_name}
    assert left_out == {layer for layer in layers if any(fnmatch(layer, pattern) for pattern in IN_FLOAT.get(name, ()))}
    assert [row.name for row in table.layers if row.is_fixed] == [table.layers[0].name, table.layers[-1].name]
    float_input = [row.name for row in table.layers if row.activation_group not in ctrl.quantizers.activations]
    pattern, count = FLOAT_INPUT.get(name, ("", 0))
    assert len(float_input) == count
    assert all(fnmatch(layer, pattern) for layer in float_input)
    assert set(table.unsearched.values()) <= {8}
    places = [len(quantizer.affected_insertions) for quantizer in ctrl.non_weight_quantizers.values()]
    num_unified = sum(count > 1 for count in places)
    assert num_unified == UNIFIED.get(name, 0)
    spent = sum(row.macs * math.prod(ctrl.policy.bits[row.name]) for row in table.layers)
    assert spent <= sum(row.macs * math.prod(row.uniform_bits(4, 4)) for row in table.layers)

    num_fixed = sum(row.is_fixed for row in table.layers)
    in_float = 1 - sum(row.weight_count for row in table.layers) / weight_count
    cells = [pixels, len(layers), len(table.layers) - num_fixed, num_fixed, len(float_input), len(places), num_unified]
    write_row([name, *map(str, cells), f"{in_float:.1%}", f"{seconds:.0f}"])
