"""Small frozen models with random integers, as the adapter's freeze would leave them."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import nn

from llt_nncf.functional import integer_range
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight

SIZE = 6
CHANNELS = 8


def quantizer(
    name: str, num_bits: int = 8, signed: bool = False, step_size: float = 0.125
) -> FrozenActivationQuantizer:
    return FrozenActivationQuantizer(torch.tensor(step_size), num_bits=num_bits, signed=signed, name=name)


class Layer(nn.Module):
    """A convolution, or with ``kernel=None`` a linear layer, with integer weights and a bias on their grid."""

    def __init__(self, name, source, shape, *, num_bits=4, per_channel=True, is_exact=True, has_bias=True, **conv):
        super().__init__()
        qmin, qmax = integer_range(num_bits, signed=True, narrow_range=num_bits == 8)
        channels = (shape[0] if per_channel else 1, *[1] * (len(shape) - 1))
        exponents = torch.randint(-9, -5, channels).float() + (0 if is_exact else torch.rand(channels))
        codes = torch.randint(qmin, qmax + 1, shape)
        codes.view(-1)[0] = -qmin  # What folding a batch norm of negative gain may leave behind.
        self.frozen_weight = FrozenWeight(codes, 2.0**exponents, num_bits=num_bits, name=name)
        self.weight = nn.Parameter(torch.zeros(shape))
        self.bias_codes = torch.randint(-300, 300, shape[:1])
        self.bias = nn.Parameter(torch.zeros(shape[0])) if has_bias else None
        self.source = [source]  # In a list: not a submodule.
        self.conv = conv

    def put_bias_on_grid(self) -> None:
        if self.bias is not None:
            step_size = self.source[0].step_size * self.frozen_weight.step_size.flatten()
            self.bias.data = self.bias_codes * step_size

    def forward(self, x: Tensor) -> Tensor:
        weight = self.frozen_weight(self.weight)
        return F.linear(x, weight, self.bias) if weight.dim() == 2 else F.conv2d(x, weight, self.bias, **self.conv)


def calibrate(model: nn.Module, x: Tensor, *, is_exact: bool) -> nn.Module:
    """Gives each quantizer a step size that covers its input, a power of two if ``is_exact``, and sets the biases."""

    def set_step_size(module: FrozenActivationQuantizer, arguments: tuple[Tensor, ...]) -> None:
        qmax = integer_range(module.num_bits, signed=module.signed)[1]
        exponent = torch.log2(0.7 * arguments[0].abs().max() / qmax)
        module.step_size.copy_(2.0 ** (exponent.round() if is_exact else exponent))

    hooks = [
        module.register_forward_pre_hook(set_step_size)
        for module in model.modules()
        if isinstance(module, FrozenActivationQuantizer)
    ]
    hooks += [
        module.register_forward_pre_hook(lambda layer, _: layer.put_bias_on_grid())
        for module in model.modules()
        if isinstance(module, Layer)
    ]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return model


class Patterns(nn.Module):
    """Every pattern of layers that must run in integers, each an output of its own, behind one input quantizer."""

    outputs = ("plain", "depthwise", "grouped", "strided", "dilated", "linear", "add", "concat", "pool_fc")

    def __init__(self, *, num_bits: int, signed: bool, per_channel: bool, is_exact: bool = True):
        super().__init__()
        self.signed = signed
        c, modules = CHANNELS, nn.ModuleDict()
        modules["in_q"] = quantizer("model/in|0", num_bits, signed)
        convs = {
            "plain": ((c, c, 3, 3), {"padding": 1}),
            "depthwise": ((c, 1, 3, 3), {"padding": 1, "groups": c}),
            "grouped": ((c, c // 2, 3, 3), {"padding": 1, "groups": 2}),
            "strided": ((c, c, 3, 3), {"stride": 2}),
            "dilated": ((c, c, 3, 3), {"padding": 2, "dilation": 2}),
            "add": ((c, c, 3, 3), {"padding": 1}),
            "left": ((c, c, 1, 1), {}),
            "right": ((c, c, 3, 3), {"padding": 1}),
        }
        kwargs = {"num_bits": num_bits, "per_channel": per_channel, "is_exact": is_exact}
        for name, (shape, conv) in convs.items():
            modules[name] = Layer(f"net.{name}", modules["in_q"], shape, **kwargs, **conv)
        modules["linear"] = Layer("net.linear", modules["in_q"], (10, c * SIZE * SIZE), **kwargs)
        for name in ("plain", "depthwise", "grouped", "strided", "dilated", "concat", "sum"):
            modules[f"{name}_q"] = quantizer(f"{name}/out|0", num_bits, signed)
        modules["add_q"] = quantizer("add/out|0", 8, True)
        modules["pool_q"] = quantizer("pool/out|0", 8, signed)
        modules["fc"] = Layer("net.fc", modules["pool_q"], (10, c), **kwargs)
        self.net = modules

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        net, activation = self.net, (nn.Identity() if self.signed else nn.ReLU())
        x = net["in_q"](x)
        simple = [net[f"{n}_q"](activation(net[n](x))) for n in ("plain", "depthwise", "grouped", "strided", "dilated")]
        linear = net["linear"](x.view(x.size(0), -1))
        add = net["sum_q"](activation(x + net["add_q"](net["add"](x))))
        # One quantizer for both branches, as NNCF's unified scales have it.
        concat = torch.cat([net["concat_q"](activation(net[n](x))) for n in ("left", "right")], dim=1)
        pooled = net["pool_q"](simple[0].mean([2, 3]))
        return (*simple, linear, add, concat, net["fc"](pooled))


class Classifier(nn.Module):
    """A small residual classifier: folded batch norm, Relu6, shared quantizer, max pool, pad, linear with 2 layers."""

    def __init__(self, *, activation_bits: int = 4, weight_bits: int = 4):
        super().__init__()
        c, bits = CHANNELS, activation_bits
        self.in_q = quantizer("input|0", 8, True)
        self.stem = Layer("stem", self.in_q, (c, 3, 3, 3), num_bits=weight_bits, padding=1)
        self.bn = nn.BatchNorm2d(c)
        self.bn.running_var.fill_(1 - self.bn.eps)
        self.stem_q = quantizer("stem|0", bits)
        self.conv = Layer("block.conv", self.stem_q, (c, c, 3, 3), num_bits=weight_bits)
        self.conv_q = quantizer("block|0", 8, True)
        self.sum_q = quantizer("sum|0", bits)
        self.fc1 = Layer("fc1", self.sum_q, (c, c * 9), num_bits=weight_bits, has_bias=False)
        self.fc1_q = quantizer("fc1|0", bits)
        self.fc2 = Layer("fc2", self.fc1_q, (10, c), num_bits=weight_bits)

    policy_bits = ("stem", "block.conv", "fc1", "fc2")

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem_q(F.relu6(self.bn(self.stem(self.in_q(x))))), 2)
        x = self.sum_q(F.relu(x + self.conv_q(self.conv(F.pad(x, (1, 1, 1, 1))))))
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(self.fc1_q(x))
