"""The tables of a comparison, each once for Markdown and HTML."""

import re
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from results import Cell
from results import Comparison
from summary import Group
from summary import Statistic
from summary import Summary
from wording import number
from wording import with_spread

_NONE = "–"
_COSTS = {
    "search_seconds": "search, seconds",
    "search_passes": "search, passes",
    "finetune_seconds": "fine-tuning, seconds",
    "finetune_passes": "fine-tuning, passes",
}
# Heading -> name of the figure, what it is divided by, decimals.
_SIZES = {
    "GBitOPs": ("gbitops", 1, 3),
    "weights, MiB": ("weight_mib", 1, 4),
    "ONNX file, KiB": ("file_bytes", 1024, 1),
}


@dataclass(frozen=True)
class TableCell:
    """
    What stands in one place of a table.

    :param lines: What stands in it, one below the other.
    :param mark: ``best``, ``close`` to the best, or nothing.
    :param note: Number of its footnote, from 1.
    """

    lines: tuple[str, ...]
    mark: str = ""
    note: int | None = None


@dataclass(frozen=True)
class TableRow:
    """
    One line of a table.

    :param heading: Of the row.
    :param cells: One for each heading of the table but the first.
    :param group: Rows that follow each other with the same one are shown under it.
    """

    heading: str
    cells: tuple[TableCell, ...]
    group: str = ""


@dataclass(frozen=True)
class Table:
    """
    A table, whatever it is written as.

    :param title: What it shows, in a few words.
    :param about: How to read it.
    :param headings: Of the columns; the first is that of the rows' headings.
    :param rows: From top to bottom.
    :param footnotes: From number 1.
    :param heading_notes: Heading to the number of its footnote.
    """

    title: str
    about: str
    headings: tuple[str, ...]
    rows: tuple[TableRow, ...]
    footnotes: tuple[str, ...] = ()
    heading_notes: Mapping[str, int] = field(default_factory=dict)


def accuracy_table(summary: Summary) -> Table:
    """Returns top-1, its spread and the drop, a row for each budget and a column for each method."""
    footnotes: dict[str, int] = {}
    labels = summary.comparison.methods
    rules = {method: _rules(summary, method) for method in summary.methods}
    heading_notes = {labels[key]: _note(" ".join(own), footnotes) for key, own in rules.items() if own}
    rows = []
    for budget in summary.budgets:
        best, close = summary.best(budget), summary.close(budget)
        cells = []
        for method in summary.methods:
            mark = "best" if method in best else "close" if method in close else ""
            cells.append(_accuracy_cell(summary, (method, budget), mark, rules[method], footnotes))
        rows.append(TableRow(summary.comparison.budgets[budget], tuple(cells)))
    about = (
        "Top-1 in percent, mean ± spread over the seeds, and below it the drop from the float model's "
        f"{number(summary.comparison.float_top1)} in points. The spread is the sample standard deviation (n-1); of one "
        "seed there is none. The best of each row is marked strongly, what is within its spread weakly: over the seeds "
        f"that both have, they differ by no more than the larger of the two spreads. {_NONE}: not compared."
    )
    headings = ("budget", *(labels[method] for method in summary.methods))
    return Table("Accuracy at each budget", about, headings, tuple(rows), tuple(footnotes), heading_notes)


def cost_table(summary: Summary) -> Table:
    """Returns what search and fine-tuning cost, a row for each method."""
    rows = []
    for method in summary.methods:
        done = [cell for (key, _), group in summary.groups.items() if key == method for cell in group.done]
        statistics = [Statistic.of(cell.figures[key] for cell in done if key in cell.figures) for key in _COSTS]
        cells = tuple(TableCell((_NONE if value is None else _short(value.mean),)) for value in statistics)
        rows.append(TableRow(summary.comparison.methods[method], (*cells, TableCell((str(len(done)),)))))
    about = (
        "Means over all budgets and seeds that are done. Seconds are those of one core; a pass is one batch forward "
        "and backward, and a forward pass alone counts as a third. A search that serves several budgets is counted in "
        "full at each of them."
    )
    return Table("Cost", about, ("method", *_COSTS.values(), "cells"), tuple(rows))


def size_table(summary: Summary) -> Table:
    """Returns sizes and BitOPs, a row for each method under each budget."""
    rows = []
    for budget in summary.budgets:
        for method in summary.methods:
            group = summary.groups.get((method, budget))
            if group is not None and group.done:
                cells = tuple(_size_cell(group, *column) for column in _SIZES.values())
                rows.append(TableRow(summary.comparison.methods[method], cells, summary.comparison.budgets[budget]))
    about = (
        "Means over the seeds. Weights are counted at their bits (MiB: 2**20 bytes); the file is the exported model as "
        "it lies on the disk (KiB: 1024 bytes). Methods without a result are left out."
    )
    return Table("Size and BitOPs", about, ("method", *_SIZES), tuple(rows))


def bit_table(summary: Summary, budget: str) -> Table | None:
    """Returns weight and activation bits, a row for each layer, of the first seed; ``None`` if no method has any."""
    found = {method: summary.first_done(method, budget, "bits") for method in summary.methods}
    bits = {method: cell.bits for method, cell in found.items() if cell is not None}
    layers = dict.fromkeys(name for own in bits.values() for name in own)
    rows = tuple(TableRow(name, tuple(_bit_cell(own.get(name, ())) for own in bits.values())) for name in layers)
    headings = ("layer", *(summary.comparison.methods[method] for method in bits))
    title = f"Bits of all methods: {summary.comparison.budgets[budget]}"
    about = "Bits of the weights / of the input, with the first seed that has a result."
    return Table(title, about, headings, rows) if rows else None


def setting_table(comparison: Comparison) -> Table:
    """Returns the versions of the packages, and the machine."""
    rows = [TableRow(name, (TableCell((str(value),)),)) for name, value in comparison.machine.items()]
    rows += [TableRow(name, (TableCell((version,)),)) for name, version in comparison.versions.items()]
    return Table("Machine and versions", "", ("what", "value"), tuple(rows))


def _accuracy_cell(
    summary: Summary, key: tuple[str, str], mark: str, rules: Sequence[str], footnotes: dict[str, int]
) -> TableCell:
    group = summary.groups.get(key)
    if group is None:
        return TableCell(("not run yet" if key in summary.planned else _NONE,))
    remark = _remark(group, rules)
    note = _note(remark, footnotes) if remark else None
    top1 = group.figure("top1")
    if top1 is None:
        return TableCell(tuple(dict.fromkeys(cell.status for cell in group.cells)), note=note)
    drop = f"drop {number(summary.comparison.float_top1 - top1.mean)}"
    return TableCell((with_spread(top1), drop), mark, note)


def _size_cell(group: Group, name: str, unit: int, decimals: int) -> TableCell:
    value = group.figure(name)
    return TableCell((_NONE if value is None else number(value.mean / unit, decimals),))


def _bit_cell(pair: Sequence[int]) -> TableCell:
    return TableCell(("/".join(map(str, pair)) or _NONE,))


def _note(text: str, footnotes: dict[str, int]) -> int:
    """The number of a footnote, which is added if it is not there."""
    return footnotes.setdefault(text, len(footnotes) + 1)


def _rules(summary: Summary, method: str) -> list[str]:
    """The sentences that every result of a method has."""
    return _shared([cell for (key, _), group in summary.groups.items() if key == method for cell in group.done])


def _shared(cells: Sequence[Cell]) -> list[str]:
    told = [_sentences(cell) for cell in cells]
    return [text for text in told[0] if all(text in other for other in told)] if told else []


def _sentences(cell: Cell) -> list[str]:
    if cell.status != "done":
        return [f"{cell.status}: {cell.reason}"]
    return re.split(r"(?<=\.) (?=[A-Z0-9])", cell.reason) if cell.reason else []


def _remark(group: Group, rules: Sequence[str]) -> str:
    """What a reader must know of a group beside the method's rules: what its cells share, and then the rest by seed."""
    shared = [text for text in _shared(group.cells) if text not in rules]
    seeds: dict[str, list[int]] = {}
    for cell in group.cells:
        if text := " ".join(text for text in _sentences(cell) if text not in (*rules, *shared)):
            seeds.setdefault(text, []).append(cell.seed)
    if group.missing_seeds:
        seeds["not run yet"] = list(group.missing_seeds)
    remarks = ([" ".join(shared)] if shared else []) + [f"seed {_joined(own)}: {text}" for text, own in seeds.items()]
    return remarks[0] if len(remarks) == 1 else "; ".join(text.rstrip(".") for text in remarks)


def _joined(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _short(value: float) -> str:
    """At least three significant digits."""
    return number(value, 0 if value >= 100 or value == 0 else 1 if value >= 10 else 2)
