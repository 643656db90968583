"""The switchable quantizers of a model, joined to the rows of its layer table by name."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ArtifactError
from llt_nncf.quantizers import SwitchableQuantizer


@dataclass(frozen=True)
class QuantizerSet:
    """
    All quantizers of one model.

    :param table: The layers.
    :param weights: Layer name to weight quantizer.
    :param activations: Name to activation quantizer: every activation group and every unsearched quantizer.
    :raises ArtifactError: If a row of the table that is searched has no quantizer; a fixed group may have none, for
        example the float input of a first layer.
    """

    table: LayerTable
    weights: Mapping[str, SwitchableQuantizer]
    activations: Mapping[str, SwitchableQuantizer]

    def __post_init__(self) -> None:
        missing = [name for name in self.table.by_name if name not in self.weights]
        missing += [
            name
            for name, layers in self.table.groups.items()
            if len(layers[0].activation_bits) > 1 and name not in self.activations
        ]
        if missing:
            msg = f"No quantizer for these rows of the layer table: {', '.join(missing)}."
            raise ArtifactError(msg)

    def all(self) -> Iterator[SwitchableQuantizer]:
        """Yields every quantizer, weights first, in the order of the table."""
        yield from self.weights.values()
        yield from self.activations.values()

    def to_highest_bits(self) -> None:
        """Switches every quantizer to its highest candidate."""
        for quantizer in self.all():
            quantizer.num_bits = max(quantizer.candidate_bits)

    @contextmanager
    def keeping_bits(self) -> Iterator[None]:
        """Switches every quantizer back in the end."""
        bits = {quantizer: quantizer.num_bits for quantizer in self.all()}
        try:
            yield
        finally:
            for quantizer, num_bits in bits.items():
                quantizer.num_bits = num_bits

    def uniform_bits(self, candidate_bits: Sequence[int]) -> tuple[int, ...]:
        """
        Returns the bit-widths of the uniform policies of importance training, descending.

        NOTE: differs from the paper, where all layers have the same candidates: every bit-width that some searched
        quantizer has gets a policy. The quantizers that lack it take their nearest.

        :param candidate_bits: What to return if nothing is searched.
        """
        searched = {bits for q in self.all() if len(q.candidate_bits) > 1 for bits in q.candidate_bits}
        return tuple(sorted(searched or candidate_bits, reverse=True))

    def apply(self, policy: BitPolicy) -> None:
        """
        Switches every quantizer to the policy's bits.

        :raises ArtifactError: If the policy does not fit the table.
        """
        policy.check(self.table)
        for name, (weight_bits, _) in policy.bits.items():
            self.weights[name].num_bits = weight_bits
        for name, bits in policy.activation_bits(self.table).items():
            if name in self.activations:
                self.activations[name].num_bits = bits

    def differing_from(self, policy: BitPolicy) -> list[str]:
        """Returns the names of the quantizers whose bits are not the policy's."""
        wanted = {name: weight_bits for name, (weight_bits, _) in policy.bits.items()}
        activations = policy.activation_bits(self.table)
        return [name for name, quantizer in self.weights.items() if quantizer.num_bits != wanted[name]] + [
            name for name, quantizer in self.activations.items() if quantizer.num_bits != activations[name]
        ]

    def read_indicators(
        self, source: str, averages: Mapping[SwitchableQuantizer, Tensor] | None = None
    ) -> IndicatorTable:
        """
        Returns the step sizes as importance indicators; of several channels their mean.

        :param source: How they came about.
        :param averages: Step sizes to read, shaped as ``magnitudes()``; by default those that the quantizers have now.
        """

        def read(quantizers: Mapping[str, SwitchableQuantizer], names: Iterable[str]) -> dict[str, dict[int, float]]:
            result = {}
            for name in names:
                if name in quantizers:
                    quantizer = quantizers[name]
                    values = quantizer.magnitudes() if averages is None else averages[quantizer]
                    means = values.double().flatten(1).mean(dim=1).tolist()
                    result[name] = dict(zip(quantizer.candidate_bits, means, strict=True))
            return result

        weights = read(self.weights, self.table.by_name)
        return IndicatorTable(self.table, weights, read(self.activations, self.table.groups), source)
