"""The seam for other importance scores: a function that takes the place of the trained indicators."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from torch import nn

from llt_nncf.artifacts import PairScoreTable
from llt_nncf.errors import ConfigError
from llt_nncf.errors import InvalidIndicatorError
from llt_nncf.functional import training_mode
from llt_nncf.indicators.quantizer_set import QuantizerSet

PairScorer = Callable[[nn.Module, Iterable[Any], QuantizerSet], PairScoreTable]

OWN_INDICATORS = ("step_size", "normalized", "statistics")

_plugins: dict[str, PairScorer] = {}


def register_indicator(name: str) -> Callable[[PairScorer], PairScorer]:
    """
    Registers a function under the name by which a config asks for it, before the config is loaded. ::

        @register_indicator("loss_increase")
        def loss_increase(model, batches, quantizers):
            scores = {}
            for layer in quantizers.table.layers:
                ...  # quantizers.weights[layer.name].num_bits = 2; batches.loss(model, batch)
            return PairScoreTable(quantizers.table, scores)

    The function gets the model with its switchable quantizers, in evaluation mode and at the highest bits; the batches
    of the registered loader, whose ``loss(model, batch)`` and ``forward(model, batch)`` do what that loader's model
    needs; and the quantizers by layer, with the layer table. It returns a score for each layer and pair of weight and
    activation bits, the lower the better; the search adds them up as they are. Bits and modes are put back afterwards.

    :param name: For ``importance.indicator``.
    :raises ConfigError: If the name is one of the package's own, or taken by another function.
    """

    def register(function: PairScorer) -> PairScorer:
        if name in OWN_INDICATORS or _plugins.get(name, function) is not function:
            msg = f"The indicator {name!r} is there already; register the function under another name."
            raise ConfigError(msg)
        _plugins[name] = function
        return function

    return register


def registered_indicators() -> tuple[str, ...]:
    """Returns the names of the functions that were registered."""
    return tuple(_plugins)


def score_pairs(name: str, model: nn.Module, batches: Iterable[Any], quantizers: QuantizerSet) -> PairScoreTable:
    """
    Calls a registered function.

    :param name: Its name.
    :param model: The model; its training mode and the quantizers' bits are restored.
    :param batches: The batches that the function may use.
    :param quantizers: The quantizers.
    :raises InvalidIndicatorError: If it returns something else than scores of these layers.
    """
    with quantizers.keeping_bits(), training_mode(model, False):
        quantizers.to_highest_bits()
        scores = _plugins[name](model, batches, quantizers)
    if not isinstance(scores, PairScoreTable) or scores.table != quantizers.table:
        msg = f"The indicator {name!r} must return a PairScoreTable of quantizers.table, and returned {scores!r:.80}."
        raise InvalidIndicatorError(msg)
    return scores
