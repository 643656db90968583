"""What a policy may cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace
from typing import Any

from llt_nncf.artifacts.cost_table import CostTable
from llt_nncf.artifacts.layer_table import Layer
from llt_nncf.artifacts.layer_table import LayerTable
from llt_nncf.cost.layer_cost import without_fixed_layers
from llt_nncf.cost.limit import Limit
from llt_nncf.cost.named_limits import NAMED_LIMITS
from llt_nncf.cost.table_limit import table_limit
from llt_nncf.errors import BudgetError

# The fields that are one number.
AXES = (*(name for name in NAMED_LIMITS if name != "bitops_as"), "latency_ms")


@dataclass(frozen=True)
class Budget:
    """
    Limits on a policy; those given hold at once.

    :param gbitops: Most BitOPs, in units of 1e9.
    :param bitops_as: No more BitOPs than the uniform policy with these (weight bits, activation bits) and the fixed
        layers at their own bits. The pair may lie outside the candidates.
    :param compression_ratio: At least so many times smaller weights than in 32 bits.
    :param weight_mib: Largest size of the weights, in units of 2**20 bytes.
    :param average_weight_bits: Most bits per weight.
    :param average_activation_bits: Most bits of a layer's input, each layer counting by its MACs.
    :param latency_ms: Most milliseconds, by ``latency_table``.
    :param latency_table: A table in ms.
    :param tables: Further (cost table, most) pairs, in the unit of each table.
    :param without_fixed: Names of the limits above, or of tables, that leave out the layers at which nothing is chosen,
        such as the first and the last; all others count them at their fixed bits.
    :raises BudgetError: If no limit is given, or one is not positive and finite; all faults are named.
    """

    gbitops: float | None = None
    bitops_as: tuple[int, int] | None = None
    compression_ratio: float | None = None
    weight_mib: float | None = None
    average_weight_bits: float | None = None
    average_activation_bits: float | None = None
    latency_ms: float | None = None
    latency_table: CostTable | None = None
    tables: tuple[tuple[CostTable, float], ...] = ()
    without_fixed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = [
            f"{name}={getattr(self, name)!r} must be a positive, finite number"
            for name in AXES
            if getattr(self, name) is not None and not _is_number(getattr(self, name))
        ]
        pair = self.bitops_as
        is_pair = isinstance(pair, tuple) and len(pair) == 2 and all(_is_count(bits) and bits <= 64 for bits in pair)
        if pair is not None and not is_pair:
            faults.append(f"bitops_as={pair!r} must be a pair of integers from 1 to 64, for example (3, 4)")
        faults += [
            f"{table.name}={most!r} must be a positive, finite number"
            for table, most in self.tables
            if not _is_number(most)
        ]
        if (self.latency_ms is None) != (self.latency_table is None):
            faults.append("latency_ms and latency_table must be given together; llt-nncf latency-table makes one")
        elif self.latency_table is not None and self.latency_table.unit != "ms":
            faults.append(f"latency_table is in {self.latency_table.unit!r}, and must be in 'ms'")
        names = self.names
        if not names:
            faults.append(f"none was given: give one or more of {', '.join(NAMED_LIMITS)}, latency_ms, tables")
        reserved = {field.name for field in fields(self)}
        faults += [
            f"a cost table is named {table.name!r}, as a field of the budget is: give it another name"
            for table, _ in self.tables
            if table.name in reserved
        ]
        faults += [f"{name!r} is given twice" for name in sorted({name for name in names if names.count(name) > 1})]
        faults += [
            f"without_fixed names {name!r}, and the limits given are {', '.join(names)}"
            for name in self.without_fixed
            if name not in names
        ]
        if faults:
            msg = f"The budget's limits: {'; '.join(faults)}."
            raise BudgetError(msg)

    @property
    def names(self) -> list[str]:
        """Names of the limits that were given, in the order of the fields."""
        own = [name for name in (*NAMED_LIMITS, "latency_ms") if getattr(self, name) is not None]
        return own + [table.name for table, _ in self.tables]

    def to_dict(self) -> dict[str, Any]:
        """Returns the limits that were given, as JSON-able values; of tables, name and source."""
        tables = {table.name: most for table, most in self.tables}
        values = {name: tables.get(name, getattr(self, name, None)) for name in self.names}
        result = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        if self.latency_table is not None:
            result["latency_table"] = self.latency_table.source
        if self.without_fixed:
            result["without_fixed"] = list(self.without_fixed)
        return result

    def limits(self, table: LayerTable) -> list[Limit]:
        """
        Resolves the budget against the layers.

        :param table: The layers.
        :return: One integer limit for each that was given, in the order of the fields.
        :raises BudgetError: If a cost table lacks one of the layers or pairs.
        """
        result = []
        for name in self.names:
            leaves_out = name in self.without_fixed
            counted = [layer for layer in table.layers if not (leaves_out and layer.is_fixed)]
            limit = self._limit(name, counted)
            result.append(replace(limit, cost=without_fixed_layers(limit.cost)) if leaves_out else limit)
        return result

    def _limit(self, name: str, counted: Sequence[Layer]) -> Limit:
        if name == "latency_ms" and self.latency_table is not None:
            return table_limit(self.latency_table, getattr(self, name), counted, name=name)
        if name in NAMED_LIMITS:
            return NAMED_LIMITS[name](getattr(self, name), counted)
        table, most = next(row for row in self.tables if row[0].name == name)
        return table_limit(table, most, counted, name=name)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _is_count(value: object) -> bool:
    return _is_number(value) and isinstance(value, int)
