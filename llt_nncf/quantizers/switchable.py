"""
A quantizer that holds one learnable step size per candidate bit-width.

Tang et al., "Mixed-Precision Neural Network Quantization via Learned Layer-wise Importance", ECCV 2022,
arXiv:2203.08368, Sec. 3: the trained step sizes are the importance indicators.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch import nn

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.errors import InvalidTensorError
from llt_nncf.functional import fake_quantize
from llt_nncf.functional import fake_quantize_by_tensors
from llt_nncf.functional import integer_range
from llt_nncf.functional import kernels_for

# Added to the magnitude of the parameter, so that no update can make a step size zero.
_FLOOR = 1e-8

# Factor on the gradient of 8-bit step sizes: LSQ trains networks of 8 bits at a tenth of the learning rate (Sec. 3). At
# the rate of the others the gradient of a few clipped weights, 127-fold each, can shrink the range of a small layer by
# a third in ten steps, and a training of ResNet-20 lost 1.7 points by that (docs/results).
_EIGHT_BIT_RATE = 0.1


class SwitchableQuantizer(nn.Module):
    """
    Fake-quantizes at one of several bit-widths, each with a step size of its own.

    The step sizes are one stacked parameter, so that distributed training sees a gradient for all of them whatever the
    bit-width of a pass. A step size is the magnitude of its parameter plus 1e-8: positive by construction, with LSQ's
    own gradient.

    :param candidate_bits: Bit-widths to hold, each 2 to 8, distinct; kept in descending order.
    :param scale_shape: Shape of one step size: ``(1,)`` per tensor, or one that broadcasts to the input.
    :param signed: Whether the codes are centred on zero.
    :param is_weight: Weights use a narrow range at 8 bits, so that a negated code fits into int8 when a batch norm of
        negative gain is folded.
    :raises InvalidBitWidthError: If a bit-width is outside 2..8, given twice, or none is given.
    """

    _signed: Tensor
    _active: Tensor
    _candidates: Tensor
    _bounds: Tensor

    def __init__(
        self,
        candidate_bits: Sequence[int],
        *,
        scale_shape: Sequence[int] = (1,),
        signed: bool = True,
        is_weight: bool = False,
    ):
        super().__init__()
        if not candidate_bits or len(set(candidate_bits)) != len(candidate_bits):
            msg = f"candidate_bits={list(candidate_bits)} must name at least one bit-width, each once."
            raise InvalidBitWidthError(msg)
        for bits in candidate_bits:
            integer_range(bits, signed=signed)
        self.candidate_bits = tuple(sorted(candidate_bits, reverse=True))
        self.scale_shape = tuple(scale_shape)
        self.is_weight = is_weight
        self.raw_step_sizes = nn.Parameter(torch.ones(len(self.candidate_bits), *self.scale_shape))
        self.register_buffer("_signed", torch.tensor(signed))
        self.register_buffer("_active", torch.tensor(0))
        self.register_buffer("_candidates", torch.tensor(self.candidate_bits))
        bounds = [  # and the rate beside them, for compiled graphs
            [
                (*integer_range(bits, signed=is_signed, narrow_range=is_weight and bits == 8), _rate(bits))
                for bits in self.candidate_bits
            ]
            for is_signed in (False, True)
        ]
        self.register_buffer("_bounds", torch.tensor(bounds, dtype=torch.float32), persistent=False)
        self.keeps_range = False
        self.has_range = False  # set by whoever has given the 8-bit step size a range from statistics
        # Python mirrors of the two buffers: reading a buffer in every forward would synchronise a GPU each time.
        self._signed_value = signed
        self._active_value = 0

    @property
    def num_bits(self) -> int:
        """The bit-width in use; set it to switch."""
        return self.candidate_bits[self._active_value]

    @num_bits.setter
    def num_bits(self, num_bits: int) -> None:
        self._active_value = self._index(num_bits)
        self._active.fill_(self._active_value)

    @property
    def signed(self) -> bool:
        """Whether the codes are centred on zero."""
        return self._signed_value

    @signed.setter
    def signed(self, signed: bool) -> None:
        self._signed_value = bool(signed)
        self._signed.fill_(self._signed_value)

    @property
    def narrow_range(self) -> bool:
        """Whether the lowest signed code is left out at the bit-width in use."""
        return self.is_weight and self.num_bits == 8

    def step_size(self, num_bits: int | None = None) -> Tensor:
        """
        Returns the step size of ``num_bits``, or of the bit-width in use; differentiable, of shape ``scale_shape``.

        :param num_bits: One of the candidates.
        :raises InvalidBitWidthError: If the quantizer does not hold ``num_bits``.
        """
        index = self._active_value if num_bits is None else self._index(num_bits)
        return self.raw_step_sizes[index].abs() + _FLOOR

    @torch.no_grad()
    def set_step_size(self, num_bits: int, step_size: Tensor) -> None:
        """
        Overwrites one step size in place.

        :param num_bits: One of the candidates.
        :param step_size: Positive and finite, broadcastable to ``scale_shape``.
        :raises InvalidBitWidthError: If the quantizer does not hold ``num_bits``.
        :raises InvalidTensorError: If a value is not positive and finite.
        """
        if not bool((torch.isfinite(step_size) & (step_size > 0)).all()):
            msg = f"A step size for {num_bits} bits is not positive and finite: {step_size.flatten()[:4].tolist()}"
            raise InvalidTensorError(msg)
        self.raw_step_sizes[self._index(num_bits)].copy_(step_size.expand(self.scale_shape) - _FLOOR)

    def keep_range(self) -> None:
        """
        Leaves the step size untrained if 8 bits are the only candidate: made for a quantizer of the model's input.

        No training changes what the input is, and at 8 bits the whole range costs nothing. To train the step size,
        every pass would need the gradient of the first layer's input, which nothing else asks for.

        NOTE: differs from the paper: there all step sizes are trained.
        """
        self.keeps_range = self.candidate_bits == (8,)
        self.raw_step_sizes.requires_grad_(not self.keeps_range)

    def magnitudes(self) -> Tensor:
        """Returns all step sizes without gradients, shape ``(len(candidate_bits), *scale_shape)``."""
        return self.raw_step_sizes.detach().abs() + _FLOOR

    def forward(self, x: Tensor) -> Tensor:
        # LSQ's "features in a layer" are those of one sample (Sec. 2.2): the loss is a mean over the batch, and so is
        # its gradient. Counting the whole batch, the step sizes of activations hardly move in a few epochs.
        # NOTE: differs from the LIMPQ authors' code, which does that.
        samples = 1 if self.is_weight or x.dim() == 0 else max(len(x), 1)
        elements = max(x.numel(), 1) / math.prod(self.scale_shape) / samples
        if torch.compiler.is_compiling():
            # By tensors instead of Python numbers, so that one graph serves all bit-widths.
            step_size = self.raw_step_sizes.index_select(0, self._active.reshape(1))[0].abs() + _FLOOR
            qmin, qmax, rate = self._bounds[int(self._signed_value)].index_select(0, self._active.reshape(1))[0]
            return fake_quantize_by_tensors(x, step_size, qmin, qmax, (elements * qmax).rsqrt() * rate)
        signed, narrow_range = self.signed, self.narrow_range
        qmin, qmax = integer_range(self.num_bits, signed=signed, narrow_range=narrow_range)
        grad_scale = (elements * qmax) ** -0.5 * _rate(self.num_bits)
        kernels = kernels_for(x, self.raw_step_sizes)
        if kernels is not None:
            return kernels.KernelLsq.apply(x, self.raw_step_sizes, self._active_value, _FLOOR, qmin, qmax, grad_scale)
        return fake_quantize(
            x,
            self.step_size(),
            num_bits=self.num_bits,
            signed=signed,
            narrow_range=narrow_range,
            grad_scale=grad_scale,
        )

    def _index(self, num_bits: int) -> int:
        try:
            return self.candidate_bits.index(num_bits)
        except ValueError:
            msg = f"num_bits={num_bits} is not held here; the candidates are {list(self.candidate_bits)}."
            raise InvalidBitWidthError(msg) from None

    def refresh_mirrors(self) -> None:
        """
        Reads ``signed`` and ``num_bits`` back from the buffers, after something wrote to those in place.

        :raises InvalidBitWidthError: If the buffers are those of a quantizer with other candidates.
        """
        if tuple(self._candidates.tolist()) != self.candidate_bits:
            found = self._candidates.tolist()
            msg = f"The checkpoint's candidates are {found}; here they are {list(self.candidate_bits)}."
            raise InvalidBitWidthError(msg)
        self._signed_value = bool(self._signed)
        self._active_value = int(self._active)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.refresh_mirrors()

    def extra_repr(self) -> str:
        bits = f"num_bits={self.num_bits} of {list(self.candidate_bits)}"
        return f"{bits}, signed={self.signed}, scale_shape={self.scale_shape}"


def _rate(num_bits: int) -> float:
    return _EIGHT_BIT_RATE if num_bits == 8 else 1.0
