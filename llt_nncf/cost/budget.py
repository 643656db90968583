"""What a policy may cost."""

import math
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

from llt_nncf.artifacts.layer_table import Layer
from llt_nncf.artifacts.layer_table import LayerTable
from llt_nncf.cost.layer_cost import FULL_PRECISION_BITS
from llt_nncf.cost.layer_cost import GIGA
from llt_nncf.cost.layer_cost import MIB_BITS
from llt_nncf.cost.layer_cost import layer_bitops
from llt_nncf.cost.layer_cost import layer_weight_bits
from llt_nncf.cost.limit import Limit
from llt_nncf.errors import BudgetError


@dataclass(frozen=True)
class Budget:
    """
    Limits on a policy; those given hold at once. Fixed layers count in all of them.

    :param gbitops: Most BitOPs, in units of 1e9.
    :param bitops_as: No more BitOPs than the uniform policy with these (weight bits, activation bits) and the fixed
        layers at their own bits. The pair may lie outside the candidates.
    :param compression_ratio: At least so many times smaller weights than in 32 bits.
    :param weight_mib: Largest size of the weights, in units of 2**20 bytes.
    :raises BudgetError: If no limit is given, or one is not positive and finite.
    """

    gbitops: float | None = None
    bitops_as: tuple[int, int] | None = None
    compression_ratio: float | None = None
    weight_mib: float | None = None

    def __post_init__(self) -> None:
        given = self.to_dict()
        faults = [] if given else [f"none was given: give one or more of {', '.join(asdict(self))}"]
        for name, value in given.items():
            if name == "bitops_as":
                is_pair = isinstance(value, list) and len(value) == 2
                if not is_pair or not all(_is_number(bits) and isinstance(bits, int) for bits in value):
                    faults.append(f"bitops_as={value!r} must be a pair of positive integers, for example (3, 4)")
            elif not _is_number(value):
                faults.append(f"{name}={value!r} must be a positive, finite number")
        if faults:
            msg = f"The budget's limits: {'; '.join(faults)}."
            raise BudgetError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Returns the limits that were given, as JSON-able values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if v is not None}

    def limits(self, table: LayerTable) -> list[Limit]:
        """
        Resolves the budget against the layers.

        :param table: The layers.
        :return: One integer limit for each that was given, in the order of the fields.
        """
        result = []
        if self.gbitops is not None:
            result.append(_bitops_limit("gbitops", f"{self.gbitops}", _floor(self.gbitops * GIGA)))
        if self.bitops_as is not None:
            total = sum(layer_bitops(layer, *_uniform_bits(layer, *self.bitops_as)) for layer in table.layers)
            result.append(_bitops_limit("bitops_as", f"{self.bitops_as} ({total / GIGA:.6g} GBitOPs)", total))
        full = FULL_PRECISION_BITS * sum(layer.weight_count for layer in table.layers)
        if self.compression_ratio is not None:
            most = _floor(full / self.compression_ratio)
            given = f"{self.compression_ratio}"
            result.append(
                Limit("compression_ratio", given, layer_weight_bits, most, "x", lambda n: full / n, True, False)
            )
        if self.weight_mib is not None:
            most = _floor(self.weight_mib * MIB_BITS)
            given = f"{self.weight_mib}"
            result.append(
                Limit("weight_mib", given, layer_weight_bits, most, "MiB", lambda n: n / MIB_BITS, False, False)
            )
        return result


def _bitops_limit(name: str, given: str, most: int) -> Limit:
    return Limit(name, given, layer_bitops, most, "GBitOPs", lambda n: n / GIGA)


def _uniform_bits(layer: Layer, weight_bits: int, activation_bits: int) -> tuple[int, int]:
    return (
        layer.weight_bits[0] if len(layer.weight_bits) == 1 else weight_bits,
        layer.activation_bits[0] if len(layer.activation_bits) == 1 else activation_bits,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _floor(value: float) -> int:
    """Rounds down, but up over the float's last bits, so that a reported total given back as a limit is met."""
    return math.floor(min(value * (1 + 1e-15), 2.0**62))
