"""What ``compression_ctrl.statistics()`` returns: NNCF's quantization statistics, and the bits of every layer."""

from collections import Counter
from collections.abc import Iterable

from nncf.common.quantization.statistics import QuantizationStatistics
from nncf.common.quantization.statistics import QuantizersCounter

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import PolicyCost
from llt_nncf.indicators import QuantizerSet
from llt_nncf.quantizers import SwitchableQuantizer


class LltStatistics(QuantizationStatistics):
    """
    Counts of quantizers by kind and bit-width, as NNCF's own statistics have them, with layer table and cost.

    :param quantizers: All quantizers.
    :param policy: The policy in force, or ``None`` before the search.
    """

    def __init__(self, quantizers: QuantizerSet, policy: BitPolicy | None):
        super().__init__(
            wq_counter=_count(quantizers.weights.values()),
            aq_counter=_count(quantizers.activations.values()),
            num_wq_per_bitwidth=Counter(quantizer.num_bits for quantizer in quantizers.weights.values()),
            num_aq_per_bitwidth=Counter(quantizer.num_bits for quantizer in quantizers.activations.values()),
            ratio_of_enabled_quantizations=100.0,
        )
        self.table = quantizers.table
        self.policy = policy

    def to_str(self) -> str:
        if self.policy is None:
            return "llt_quantization: importance indicators are being trained; no bit-widths are chosen yet."
        return policy_table(self.table, self.policy)


def policy_table(table: LayerTable, policy: BitPolicy) -> str:
    """
    Returns the bits of every layer and what the policy costs, as text of at most 80 columns for usual layer names.

    :param table: The layers.
    :param policy: A policy that fits them.
    """
    width = max(len(layer.name) for layer in table.layers)
    lines = [f"{'layer':<{width}}  weight bits  activation bits     MMACs      weights"]
    for layer in table.layers:
        weight_bits, activation_bits = policy.bits[layer.name]
        note = "  fixed" if layer.is_fixed else ""
        lines.append(
            f"{layer.name:<{width}}  {weight_bits:>11}  {activation_bits:>15}  {layer.macs / 1e6:>8.3f}  "
            f"{layer.weight_count:>11,}{note}"
        )
    cost = PolicyCost.from_policy(policy, table)
    lines.append(
        f"{cost.gbitops:.4g} GBitOPs, weights {cost.weight_mib:.4g} MiB "
        f"({cost.compression_ratio:.2f}x smaller than 32-bit)"
    )
    return "\n".join(lines)


def _count(quantizers: Iterable[SwitchableQuantizer]) -> QuantizersCounter:
    quantizers = list(quantizers)
    signed = sum(quantizer.signed for quantizer in quantizers)
    per_channel = sum(quantizer.scale_shape != (1,) for quantizer in quantizers)
    total = len(quantizers)
    return QuantizersCounter(
        num_symmetric=total,
        num_signed=signed,
        num_unsigned=total - signed,
        num_per_tensor=total - per_channel,
        num_per_channel=per_channel,
        total_count=total,
        potential_count=total,
    )
