"""``SwitchableQuantizer`` in the shape that NNCF's quantization algorithm handles."""

from collections.abc import Mapping
from typing import Any

import torch
from nncf.common.quantization.structs import QuantizationScheme
from nncf.common.quantization.structs import QuantizerConfig
from nncf.torch import register_operator
from nncf.torch.layer_utils import COMPRESSION_MODULES
from nncf.torch.quantization.layers import QUANTIZATION_MODULES
from nncf.torch.quantization.layers import BaseQuantizer
from nncf.torch.quantization.layers import PTQuantizerSpec
from torch import Tensor

from llt_nncf.adapter.data_parallel import refuse_data_parallel
from llt_nncf.errors import InvalidTensorError
from llt_nncf.errors import StageError
from llt_nncf.functional import integer_range
from llt_nncf.functional import min_max_step_size
from llt_nncf.indicators import take_from_first_rank
from llt_nncf.quantizers import SwitchableQuantizer

# NNCF chooses the quantizer class by the mode of its spec; this mode is ours.
SWITCHABLE_MODE = "llt_switchable"


class SwitchableQuantizerSpec(PTQuantizerSpec):
    """NNCF's quantizer spec with candidate bit-widths; ``is_quantized_on_export`` tells weights from activations."""

    _arg_names = [*PTQuantizerSpec._arg_names, "candidate_bits"]

    def __init__(self, *, candidate_bits: tuple[int, ...], **spec: Any):
        super().__init__(**spec)
        self.candidate_bits = tuple(sorted(candidate_bits, reverse=True))

    @classmethod
    def extend(
        cls, spec: PTQuantizerSpec, candidate_bits: tuple[int, ...], **changes: Any
    ) -> "SwitchableQuantizerSpec":
        """Returns ``spec`` with our mode, the candidates, the highest of them as its bits, and further ``changes``."""
        state = {name: getattr(spec, name) for name in PTQuantizerSpec.get_arg_names()}
        state |= {"mode": SWITCHABLE_MODE, "num_bits": max(candidate_bits), **changes}
        return cls(candidate_bits=candidate_bits, **state)


@register_operator("llt_quantize")
def _quantize(x: Tensor, quantizer: SwitchableQuantizer, identity: bool) -> Tensor:
    """One node in NNCF's graph, whatever torch operations it takes inside."""
    return x if identity else quantizer(x)


@COMPRESSION_MODULES.register()
@QUANTIZATION_MODULES.register(SWITCHABLE_MODE)
class NncfSwitchableQuantizer(BaseQuantizer):
    """
    Hands NNCF's questions on to a ``SwitchableQuantizer``.

    :param qspec: A ``SwitchableQuantizerSpec``.
    """

    # Python mirror of the buffer ``enabled``: NNCF asks in every forward, and a GPU would be waited for each time.
    _is_enabled = True

    def __init__(self, qspec: SwitchableQuantizerSpec):
        super().__init__(qspec)
        del self._num_bits  # the core knows
        self.core = SwitchableQuantizer(
            qspec.candidate_bits,
            scale_shape=qspec.scale_shape,
            signed=True if qspec.signedness_to_force is None else qspec.signedness_to_force,
            is_weight=qspec.is_quantized_on_export,
        )
        factor = qspec.compression_lr_multiplier
        if factor is not None:
            self.core.raw_step_sizes.register_hook(lambda gradient: factor * gradient)

    @property
    def num_bits(self) -> int:
        return self.core.num_bits

    @num_bits.setter
    def num_bits(self, num_bits: int) -> None:
        self.core.num_bits = num_bits

    @property
    def signed(self) -> bool:
        return self.core.signed

    @property
    def narrow_range(self) -> bool:
        return self.core.narrow_range

    @property
    def level_low(self) -> int:
        return integer_range(self.num_bits, signed=self.signed, narrow_range=self.narrow_range)[0]

    @property
    def level_high(self) -> int:
        return integer_range(self.num_bits, signed=self.signed, narrow_range=self.narrow_range)[1]

    def set_levels(self) -> None:
        """Nothing to keep up to date: the levels follow from the core."""

    def enable_gradients(self) -> None:
        self.core.raw_step_sizes.requires_grad_(not self.core.keeps_range)

    def disable_gradients(self) -> None:
        self.core.raw_step_sizes.requires_grad_(False)

    def get_trainable_params(self) -> dict[str, Tensor]:
        return {"raw_step_sizes": self.core.raw_step_sizes.detach()}

    def is_enabled_quantization(self) -> bool:
        return self._is_enabled

    def enable_quantization(self) -> None:
        super().enable_quantization()
        self._is_enabled = True

    def disable_quantization(self) -> None:
        super().disable_quantization()
        self._is_enabled = False

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._is_enabled = super().is_enabled_quantization()

    def quantize(self, x: Tensor, execute_traced_op_as_identity: bool = False) -> Tensor:
        refuse_data_parallel(self)
        return _quantize(x, self.core, execute_traced_op_as_identity)

    def apply_minmax_init(self, min_values: Tensor, max_values: Tensor, log_module_name: str | None = None) -> None:
        if not (min_values.isfinite().all() and max_values.isfinite().all()):
            msg = (
                f"The quantizer at {log_module_name} was to get its range from values with NaN or infinity among them: "
                "look for these in the samples of the registered data loader, and in the weights up to there."
            )
            raise InvalidTensorError(msg)
        super().apply_minmax_init(min_values, max_values, log_module_name)

    def _apply_minmax_init(self, min_values: Tensor, max_values: Tensor, log_module_name: str | None = None) -> None:
        if self.scale_shape == (1,):
            # The statistics were collected as NNCF had planned the quantizer, which may have been per channel.
            min_values, max_values = min_values.amin(), max_values.amax()
        if self._signedness_to_force is None:
            self.core.signed = bool((min_values < 0).any())
        for bits in self.core.candidate_bits:
            step_size = min_max_step_size(min_values, max_values, num_bits=bits, signed=self.core.signed)
            self.core.set_step_size(bits, step_size)
        self.core.has_range = True

    def broadcast_initialized_params(self, src: int = 0) -> None:
        take_from_first_rank(self.core.state_dict().values())
        self.core.refresh_mirrors()

    def get_quantizer_config(self) -> QuantizerConfig:
        return QuantizerConfig(
            num_bits=self.num_bits,
            mode=QuantizationScheme.SYMMETRIC,
            signedness_to_force=self.signed,
            per_channel=self.per_channel,
        )

    def _get_input_low_input_high(self) -> tuple[Tensor, Tensor]:
        step_size = self.core.step_size().detach()
        return step_size * self.level_low, step_size * self.level_high

    def get_parameters_for_torch_fq(self) -> tuple[int, int, Tensor, Tensor]:
        step_size = self.core.step_size().detach()
        return self.level_low, self.level_high, step_size, torch.zeros_like(step_size, dtype=torch.int32)

    def run_export_quantization(self, x: Tensor) -> Tensor:
        # Tracing (torch.jit.trace) keeps the fake quantization as plain operations; export goes by the frozen model.
        return self.core(x)

    def _prepare_export_quantization(self, x: Tensor) -> Tensor:
        msg = "A switchable quantizer is not exported by itself: call compression_ctrl.strip() or export_model()."
        raise StageError(msg)
