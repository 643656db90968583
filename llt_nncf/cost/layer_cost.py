"""What one layer costs at given bit-widths; every cost is an integer and adds up over the layers."""

from llt_nncf.artifacts.layer_table import Layer
from llt_nncf.cost.limit import LayerCost

GIGA = 10**9
MIB_BITS = 8 * 2**20
FULL_PRECISION_BITS = 32


def layer_bitops(layer: Layer, weight_bits: int, activation_bits: int) -> int:
    """Returns MACs x weight bits x activation bits."""
    return layer.macs * weight_bits * activation_bits


def layer_weight_bits(layer: Layer, weight_bits: int, activation_bits: int) -> int:
    """Returns the bits that hold the layer's weights, step sizes and bias left out; ``activation_bits`` is not used."""
    return layer.weight_count * weight_bits


def layer_activation_bits(layer: Layer, weight_bits: int, activation_bits: int) -> int:
    """Returns MACs x activation bits, of which bits per MAC are made; ``weight_bits`` is not used."""
    return layer.macs * activation_bits


def without_fixed_layers(cost: LayerCost) -> LayerCost:
    """Returns the same cost, but 0 for layers at which nothing is chosen."""
    return lambda layer, weight_bits, activation_bits: (
        0 if layer.is_fixed else cost(layer, weight_bits, activation_bits)
    )
