"""
What a trained quantizer becomes when its bit-width is final: integer weights, and a fixed activation grid.

Inside of ``llt_nodes`` the TorchScript ONNX exporter writes both as one node of the domain ``llt``, which the export
stage lowers: ``llt::Dequantize(codes, step_size)`` and ``llt::FakeQuantize(x, step_size; num_bits, signed, name)``.
Otherwise it writes standard operators: whoever calls it by himself gets a file that any engine reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch import nn

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.functional import dequantize
from llt_nncf.functional import integer_range

_as_llt_nodes = ContextVar("as_llt_nodes", default=False)


@contextmanager
def llt_nodes() -> Iterator[None]:
    """Has frozen modules traced as nodes of the domain ``llt``."""
    token = _as_llt_nodes.set(True)
    try:
        yield
    finally:
        _as_llt_nodes.reset(token)


def _fake_quantize(x: Tensor, step_size: Tensor, num_bits: int, signed: bool) -> Tensor:
    qmin, qmax = integer_range(num_bits, signed=signed)
    return torch.clamp(torch.round(x / step_size), qmin, qmax) * step_size


class _FakeQuantizeNode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, step_size, num_bits, signed, name):
        return _fake_quantize(x, step_size, num_bits, signed)

    @staticmethod
    def symbolic(g, x, step_size, num_bits, signed, name):
        node = g.op("llt::FakeQuantize", x, step_size, num_bits_i=num_bits, signed_i=int(signed), name_s=name)
        node.setType(x.type())
        return node


class _DequantizeNode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, codes, step_size, num_bits, name):
        return dequantize(codes, step_size)

    @staticmethod
    def symbolic(g, codes, step_size, num_bits, name):
        node = g.op("llt::Dequantize", codes, step_size, num_bits_i=num_bits, name_s=name)
        node.setType(codes.type().with_dtype(torch.float32))
        return node


class FrozenWeight(nn.Module):
    """
    A layer's weights as integers.

    :param codes: int8 codes in the shape of the weight tensor.
    :param step_size: Positive, per tensor ``(1,)`` or per channel, broadcastable to ``codes``.
    :param num_bits: Bit-width of the policy, 2 to 8.
    :param name: Name of the layer, kept in the exported file.
    """

    codes: Tensor
    step_size: Tensor

    def __init__(self, codes: Tensor, step_size: Tensor, *, num_bits: int, name: str):
        super().__init__()
        qmin, qmax = integer_range(num_bits, signed=True)
        # -qmin is allowed: folding a batch norm of negative gain negates the codes of a channel.
        low, high = int(codes.min()), int(codes.max())
        if low < qmin or high > min(-qmin, 127):
            msg = f"{name}: codes {low}..{high} do not fit into {num_bits} bits ({qmin}..{qmax})."
            raise InvalidBitWidthError(msg)
        self.num_bits = num_bits
        self.name = name
        self.register_buffer("codes", codes.to(torch.int8))
        self.register_buffer("step_size", step_size.detach().clone())

    def forward(self, weight: Tensor | None = None) -> Tensor:
        """Returns the weights in real units; the argument is the tensor that they replace, and is not looked at."""
        if _as_llt_nodes.get():
            return _DequantizeNode.apply(self.codes, self.step_size, self.num_bits, self.name)
        return dequantize(self.codes, self.step_size)

    def extra_repr(self) -> str:
        return f"name={self.name}, num_bits={self.num_bits}, shape={tuple(self.codes.shape)}"


class FrozenActivationQuantizer(nn.Module):
    """
    A fixed per-tensor grid for activations.

    :param step_size: One positive value.
    :param num_bits: Bit-width, 2 to 8.
    :param signed: Whether the codes are centred on zero.
    :param name: Name of the quantizer, kept in the exported file.
    """

    step_size: Tensor

    def __init__(self, step_size: Tensor, *, num_bits: int, signed: bool, name: str):
        super().__init__()
        integer_range(num_bits, signed=signed)
        self.num_bits = num_bits
        self.signed = signed
        self.name = name
        self.register_buffer("step_size", step_size.detach().clone().reshape(()))

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Returns ``x`` on the grid; of values with their positions, as ``topk`` gives them, the values."""
        if isinstance(x, tuple):
            return type(x)((self(x[0]), *x[1:]))
        if _as_llt_nodes.get():
            return _FakeQuantizeNode.apply(x, self.step_size, self.num_bits, self.signed, self.name)
        return _fake_quantize(x, self.step_size, self.num_bits, self.signed)

    def extra_repr(self) -> str:
        return f"name={self.name}, num_bits={self.num_bits}, signed={self.signed}"
