"""What a whole policy costs."""

from dataclasses import dataclass

from llt_nncf.artifacts.bit_policy import BitPolicy
from llt_nncf.artifacts.layer_table import LayerTable
from llt_nncf.cost.layer_cost import FULL_PRECISION_BITS
from llt_nncf.cost.layer_cost import GIGA
from llt_nncf.cost.layer_cost import MIB_BITS
from llt_nncf.cost.layer_cost import layer_activation_bits
from llt_nncf.cost.layer_cost import layer_bitops
from llt_nncf.cost.layer_cost import layer_weight_bits


@dataclass(frozen=True)
class PolicyCost:
    """
    Totals over all layers, the fixed ones included.

    :param bitops: Sum of MACs x weight bits x activation bits, for one sample.
    :param weight_bits: Bits that hold all weights.
    :param weight_count: Number of weights.
    :param activation_bits: Sum of MACs x activation bits, for one sample.
    :param macs: Multiply-accumulates for one sample.
    """

    bitops: int
    weight_bits: int
    weight_count: int
    activation_bits: int
    macs: int

    @classmethod
    def from_policy(cls, policy: BitPolicy, table: LayerTable) -> "PolicyCost":
        """
        Adds up what ``policy`` costs.

        :param policy: Bits of every layer of ``table``.
        :param table: The layers.
        :raises ArtifactError: If the policy does not fit the table.
        """
        policy.check(table)
        return cls(
            bitops=sum(layer_bitops(layer, *policy.bits[layer.name]) for layer in table.layers),
            weight_bits=sum(layer_weight_bits(layer, *policy.bits[layer.name]) for layer in table.layers),
            weight_count=sum(layer.weight_count for layer in table.layers),
            activation_bits=sum(layer_activation_bits(layer, *policy.bits[layer.name]) for layer in table.layers),
            macs=sum(layer.macs for layer in table.layers),
        )

    def totals(self) -> dict[str, float]:
        """Returns the totals in the units of a budget, by the names of its fields."""
        return {name: getattr(self, name) for name in ("gbitops", "weight_mib", "compression_ratio")}

    @property
    def gbitops(self) -> float:
        """BitOPs in units of 1e9."""
        return self.bitops / GIGA

    @property
    def weight_mib(self) -> float:
        """Size of the weights in units of 2**20 bytes."""
        return self.weight_bits / MIB_BITS

    @property
    def compression_ratio(self) -> float:
        """How many times smaller the weights are than in 32 bits."""
        return FULL_PRECISION_BITS * self.weight_count / self.weight_bits

    @property
    def average_weight_bits(self) -> float:
        """Bits per weight."""
        return self.weight_bits / self.weight_count

    @property
    def average_activation_bits(self) -> float:
        """Bits of a layer's input, each layer counting by its MACs."""
        return self.activation_bits / self.macs
