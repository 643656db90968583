"""Importance indicators that do not depend on the scale of a tensor."""

import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from torch import nn

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.indicators.tensor_statistics import TensorStatistics
from llt_nncf.indicators.tensor_statistics import observe_tensors
from llt_nncf.quantizers import SwitchableQuantizer


def normalize_indicators(
    indicators: IndicatorTable,
    model: nn.Module,
    quantizers: QuantizerSet,
    batches: Iterable[Any],
    forward: Callable[[nn.Module, Any], object],
) -> IndicatorTable:
    """
    Divides each indicator by the standard deviation of its tensor, and multiplies it by ``sqrt(n)``.

    The raw step size is not invariant: a convolution in front of a batch norm can be scaled by any factor without
    changing what the network computes, and its indicator is scaled with it. ``n`` is the number of weights, or of
    elements in one sample of the activation. A tensor that is constant gets the indicator 0: rounding loses nothing.

    NOTE: differs from the paper: there the indicator is the step size itself.

    :param indicators: Step sizes; of per-channel quantizers the mean.
    :param model: The model with the quantizers; its training mode is restored.
    :param quantizers: The quantizers.
    :param batches: A few batches, which must reach every quantizer that is searched.
    :param forward: Called with the model and each batch.
    :raises InvalidIndicatorError: If a quantizer that is searched is not reached.
    :raises InvalidTensorError: If a quantizer sees NaN or infinity; it is named.
    """
    observed = observe_tensors(model, quantizers, batches, forward)

    def normalize(
        table: Mapping[str, Mapping[int, float]], modules: Mapping[str, SwitchableQuantizer]
    ) -> dict[str, dict[int, float]]:
        factors = {
            name: _factor(observed[module], module.is_weight) for name, module in modules.items() if module in observed
        }
        return {
            name: {bits: value * factors[name] for bits, value in values.items()}
            for name, values in table.items()
            if name in factors
        }

    weights = normalize(indicators.weights, quantizers.weights)
    activations = normalize(indicators.activations, quantizers.activations)
    source = ", ".join(filter(None, (indicators.source, "normalized")))
    return IndicatorTable(indicators.table, weights, activations, source)


def _factor(observed: TensorStatistics, is_weight: bool) -> float:
    count = observed.count if is_weight else observed.count_per_sample
    return math.sqrt(count) / observed.std if observed.std else 0.0
