"""The weight of the weights' indicators that puts them on a par with the activations'."""

from collections.abc import Iterable

from llt_nncf.artifacts.indicator_table import BitsToValue
from llt_nncf.artifacts.indicator_table import IndicatorTable


def balanced_alpha(indicators: IndicatorTable) -> float:
    """
    Returns the factor at which the weights' indicators, averaged over their bit-widths, sum up to the activations'.

    Step sizes of weights and of activations are in unrelated units; unweighted, the larger kind, normally the
    activations', gets more of the bits. That is not always a fault, as training makes up for coarse weights and not for
    coarse activations: ResNet-20 on CIFAR-10 is better at 2 than at its balance of 4.6 (docs/results). On the ResNet-50
    indicators that the LIMPQ authors published the balance is 2.86, where they chose 2 by hand.

    :param indicators: Only what is searched counts.
    :return: The factor; 1.0 where one of the sums is zero.
    """
    table = indicators.table
    weights = _sum(indicators.weights[layer.name] for layer in table.layers if len(layer.weight_bits) > 1)
    searched = [name for name, layers in table.groups.items() if len(layers[0].activation_bits) > 1]
    activations = _sum(indicators.activations[name] for name in searched)
    return activations / weights if weights > 0 and activations > 0 else 1.0


def _sum(rows: Iterable[BitsToValue]) -> float:
    return sum(sum(values.values()) / len(values) for values in rows)
