"""The passes of one step of importance training: which bits every quantizer has in each."""

import random
from collections.abc import Iterator

from llt_nncf.indicators.quantizer_set import QuantizerSet
from llt_nncf.quantizers import SwitchableQuantizer


def policy_rounds(
    quantizers: QuantizerSet,
    candidate_bits: tuple[int, ...],
    *,
    sampled_policies: int,
    seed: int,
    step: int,
    tie_weight_activation: bool = False,
) -> Iterator[str]:
    """
    Switches the quantizers to one policy after the other, and yields a name for each.

    Algorithm 1 (LIMPQ, supplement): one uniform policy for each candidate bit-width, then policies in which every
    quantizer's bits are drawn uniformly and independently. The draw depends on ``seed`` and ``step`` alone, so it is
    the same on every rank and after a resume.

    :param quantizers: The quantizers; one that lacks the bits of a uniform policy takes its nearest, of two the higher.
    :param candidate_bits: Bit-widths of the uniform policies, in order.
    :param sampled_policies: Number of sampled policies, 0 or more.
    :param seed: Seed of the draw.
    :param step: Number of the optimizer step.
    :param tie_weight_activation: Gives the weights of a layer the bits that were drawn for its input, as the authors'
        code does; the layers that share an input have the same bits then.
    :return: Yields ``uniform-6``, ..., ``sampled-0``; the caller does its forward and backward pass in between.
    """
    for bits in candidate_bits:
        for quantizer in quantizers.all():
            quantizer.num_bits = _nearest(quantizer, bits)
        yield f"uniform-{bits}"
    # A string seed goes through SHA-512: neighbouring seeds and steps do not collide, on any platform.
    generator = random.Random(f"{seed}/{step}")
    for index in range(sampled_policies):
        for quantizer in quantizers.all():
            quantizer.num_bits = generator.choice(quantizer.candidate_bits)
        if tie_weight_activation:
            _tie(quantizers)
        yield f"sampled-{index}"


def _tie(quantizers: QuantizerSet) -> None:
    for layer in quantizers.table.layers:
        if len(layer.activation_bits) > 1:
            weight = quantizers.weights[layer.name]
            weight.num_bits = _nearest(weight, quantizers.activations[layer.activation_group].num_bits)


def _nearest(quantizer: SwitchableQuantizer, bits: int) -> int:
    return min(quantizer.candidate_bits, key=lambda candidate: (abs(candidate - bits), -candidate))
