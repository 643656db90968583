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
    """A convolution, or by default for two dimensions a linear layer, with integer weights and a bias on their grid."""

    def __init__(
        self, name, source, shape, *, num_bits=4, per_channel=True, is_exact=True, has_bias=True, op=None, **conv
    ):
        super().__init__()
        qmin, qmax = integer_range(num_bits, signed=True, narrow_range=num_bits == 8)
        dim = 1 if op is F.conv_transpose2d else 0
        channels = [shape[i] if i == dim and per_channel else 1 for i in range(len(shape))]
        exponents = torch.randint(-9, -5, channels).float() + (0 if is_exact else torch.rand(channels))
        codes = torch.randint(qmin, -qmin + 1, shape).clamp(max=qmax)  # Of mean 0, or ReLU leaves nothing of 2 bits.
        codes.view(-1)[0] = -qmin  # What folding a batch norm of negative gain may leave behind.
        self.frozen_weight = FrozenWeight(codes, 2.0**exponents, num_bits=num_bits, name=name)
        self.weight = nn.Parameter(torch.zeros(shape))
        self.bias_codes = torch.randint(-20, 20, shape[dim : dim + 1])
        self.bias = nn.Parameter(torch.zeros(shape[dim])) if has_bias else None
        self.source = [source]  # In a list: not a submodule.
        self.op = op or (F.linear if len(shape) == 2 else F.conv2d)
        self.conv = conv

    def put_bias_on_grid(self) -> None:
        if self.bias is not None:
            step_size = self.source[0].step_size * self.frozen_weight.step_size.flatten()
            self.bias.data = self.bias_codes * step_size

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x, self.frozen_weight(self.weight), self.bias, **self.conv)


def calibrate(model: nn.Module, x: Tensor, *, is_exact: bool) -> nn.Module:
    """Gives each quantizer a step size that covers its input, a power of two if ``is_exact``, and sets the biases."""

    def set_step_size(module: FrozenActivationQuantizer, arguments: tuple[Tensor, ...]) -> None:
        qmax = integer_range(module.num_bits, signed=module.signed)[1]
        exponent = torch.log2((0.7 * arguments[0].abs().max() / qmax).clamp(min=2.0**-20))
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
