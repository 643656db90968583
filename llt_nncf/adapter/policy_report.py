"""A policy as text: the bits of every layer, what they cost, and how much of the budget that is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nncf.common.logging import nncf_logger

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import Budget
from llt_nncf.cost import LimitShare
from llt_nncf.cost import PolicyCost
from llt_nncf.cost import limit_shares

_MOST_ROWS = 40  # more layers stand side by side, by their bits alone
_SHORT_NAME = 28
_GAP = 3


@dataclass(frozen=True)
class PolicyReport:
    """
    One policy; its figures are worked out once.

    :param policy: A policy that fits the layers.
    :param table: The layers.
    :param budget: The limits that it was found within, if there are any.
    """

    policy: BitPolicy
    table: LayerTable
    budget: Budget | None = None

    @cached_property
    def cost(self) -> PolicyCost:
        """Totals over all layers."""
        return PolicyCost.from_policy(self.policy, self.table)

    @cached_property
    def shares(self) -> tuple[LimitShare, ...]:
        """How much of each limit is used."""
        return () if self.budget is None else limit_shares(self.budget, self.policy, self.table)

    def warn_of_budget(self) -> None:
        """Says so if the policy takes more than the budget has."""
        exceeded = [f"{share.name} ({share.share:.1%})" for share in self.shares if share.share > 1]
        if exceeded:
            nncf_logger.warning(f"The policy in use exceeds compression.budget: {', '.join(exceeded)}.")

    def to_str(self, columns: int) -> str:
        """
        Returns the text.

        :param columns: Width of a line, at least 70; long names of layers are shortened in the middle.
        """
        lines = self._grid(columns) if len(self.table.layers) > _MOST_ROWS else self._rows(columns)
        lines += self._bit_counts()
        lines.append(
            f"{self.cost.gbitops:.4g} GBitOPs, weights {self.cost.weight_mib:.4g} MiB "
            f"({self.cost.compression_ratio:.2f}x smaller than 32-bit)"
        )
        if self.shares:
            rows = [
                (f"{share.name}, {share.unit}", f"{share.used:.6g}", f"{share.allowed:.6g}", f"{share.share:.1%}")
                for share in self.shares
            ]
            lines += aligned([("budget", "used", "allowed", "share"), *rows])
        return "\n".join(lines)

    def _bit_counts(self) -> list[str]:
        bits = sorted({bits for pair in self.policy.bits.values() for bits in pair}, reverse=True)
        averages = (
            f"{self.cost.average_weight_bits:.2f} per weight",
            f"{self.cost.average_activation_bits:.2f} per MAC",
        )
        rows = [("layers by bits", *map(str, bits), "average")]
        for index, kind in enumerate(("weights", "activations")):
            counts = Counter(pair[index] for pair in self.policy.bits.values())
            rows.append((kind, *(str(counts[num_bits] or "") for num_bits in bits), averages[index]))
        return aligned(rows)

    def _rows(self, columns: int) -> list[str]:
        rows = [("", "W bits", "A bits", "MMACs", "weights", "")]
        for layer in self.table.layers:
            weight_bits, activation_bits = self.policy.bits[layer.name]
            counts = (f"{layer.macs / 1e6:.3f}", f"{layer.weight_count:,}")
            rows.append(("", str(weight_bits), str(activation_bits), *counts, "fixed" if layer.is_fixed else ""))
        figures = aligned(rows)
        room = columns - max(map(len, figures))
        names = [shortened(name, room) for name in ("layer", *self.table.by_name)]
        width = max(map(len, names))
        return [f"{name:<{width}}{line}" for name, line in zip(names, figures, strict=True)]

    def _grid(self, columns: int) -> list[str]:
        """Layers from top to bottom in as many columns as there is room for."""
        longest = max(len(layer.name) for layer in self.table.layers)
        across = max(1, (columns + _GAP) // (min(longest, _SHORT_NAME) + 7 + _GAP))
        width = min(longest, (columns + _GAP) // across - 7 - _GAP)
        cells = []
        for layer in self.table.layers:
            weight_bits, activation_bits = self.policy.bits[layer.name]
            mark = "*" if layer.is_fixed else " "
            cells.append(f"{shortened(layer.name, width):<{width}}{mark} {weight_bits:>2} {activation_bits:>2}")
        down = -(-len(cells) // across)
        blocks = [cells[start : start + down] for start in range(0, len(cells), down)]
        gap = " " * _GAP
        lines = [gap.join([f"{'layer':<{width}}   W  A"] * len(blocks))]
        lines += [gap.join(block[row] for block in blocks if row < len(block)) for row in range(down)]
        return [*lines, "* fixed"] if any(layer.is_fixed for layer in self.table.layers) else lines


def shortened(name: str, width: int) -> str:
    """
    Returns ``name`` without some of its middle, where it is longer than ``width``.

    >>> shortened("features.denseblock4.denselayer16.conv2", 24), shortened("conv1", 24)
    ('featu..enselayer16.conv2', 'conv1')
    """
    if len(name) <= width:
        return name
    head = (width - 2) // 4
    return f"{name[:head]}..{name[head + 2 - width :]}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """
    Returns a line for each row: the first cell to the left, the others to the right.

    >>> aligned([("budget", "used"), ("gbitops", "0.5")])
    ['budget   used', 'gbitops   0.5']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [f"{row[0]:<{widths[0]}}", *(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
