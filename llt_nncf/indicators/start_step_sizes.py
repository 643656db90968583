"""Start values of all step sizes from a few batches of data."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch import nn

from llt_nncf.errors import ConfigError
from llt_nncf.functional import lsq_step_size
from llt_nncf.functional import min_max_step_size
from llt_nncf.functional import mse_step_size
from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.indicators.tensor_statistics import TensorStatistics
from llt_nncf.indicators.tensor_statistics import observe_tensors

START_VALUES = ("lsq", "min_max", "mse")


def start_step_sizes(
    model: nn.Module,
    quantizers: QuantizerSet,
    batches: Iterable[Any],
    forward: Callable[[nn.Module, Any], object],
    *,
    start_values: str = "mse",
) -> None:
    """
    Sets the step sizes to their start values, in place: by ``start_values`` below 8 bits, covering the range at 8.

    At 8 bits covering the range costs nothing, and LSQ's value, made for training at few bits, can clip. A quantizer
    whose range was set already (``has_range``) keeps that at 8 bits. Everything is observed with all quantizers open,
    in evaluation mode.

    :param model: The model with the quantizers; its training mode is restored.
    :param quantizers: The quantizers.
    :param batches: A few batches; quantizers that no batch reaches keep their step sizes.
    :param forward: Called with the model and each batch.
    :param start_values: ``lsq``, by the mean magnitude; ``min_max``, covering the range; or ``mse``, of the least
        mean squared rounding error (of an even sample of the activations).
    :raises ConfigError: If ``start_values`` is another.
    :raises InvalidTensorError: If a quantizer sees NaN or infinity; it is named.
    """
    if start_values not in START_VALUES:
        msg = f"start_values={start_values!r} is not known: give one of {', '.join(START_VALUES)}."
        raise ConfigError(msg)
    for quantizer, observed in observe_tensors(model, quantizers, batches, forward).items():
        for bits in quantizer.candidate_bits:
            if bits < 8:
                step_size = _step_size(observed, start_values, num_bits=bits, signed=quantizer.signed)
            elif not quantizer.has_range:
                step_size = _step_size(observed, "min_max", num_bits=bits, signed=quantizer.signed)
            else:
                continue
            quantizer.set_step_size(bits, step_size.reshape(quantizer.scale_shape))


def _step_size(observed: TensorStatistics, start_values: str, *, num_bits: int, signed: bool) -> Tensor:
    if start_values == "lsq":
        return lsq_step_size(observed.mean_abs, num_bits=num_bits, signed=signed)
    if start_values == "min_max":
        return min_max_step_size(observed.low, observed.high, num_bits=num_bits, signed=signed)
    sample = observed.sample
    return mse_step_size(sample, num_bits=num_bits, signed=signed, scale_shape=(len(sample), 1))
