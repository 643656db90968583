"""The tables of a comparison as Markdown, and its cells as CSV."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from findings import answers
from findings import verdict
from findings import what_was_compared
from results import Cell
from results import Comparison
from summary import Summary
from tables import Table
from tables import TableCell
from tables import TableRow
from tables import accuracy_table
from tables import cost_table
from tables import setting_table
from tables import size_table

from llt_nncf.artifacts import write_atomically

_FIGURES = (
    "gbitops",
    "weight_mib",
    "file_bytes",
    "search_seconds",
    "search_passes",
    "finetune_seconds",
    "finetune_passes",
    "start_top1",
)
COLUMNS = ("method", "budget", "seed", "status", "reason", "top1", "float_top1", "drop", *_FIGURES)
_EMPHASIS = {"best": "**", "close": "*", "": ""}


def write_csv(comparison: Comparison, path: Path) -> Path:
    """
    Writes a row for each cell, with keys and not labels; what a cell does not have is left empty.

    :param path: The file; an existing one is replaced.
    :return: ``path``.
    """
    budgets, methods = list(comparison.budgets), list(comparison.methods)
    cells = sorted(comparison.cells, key=lambda c: (budgets.index(c.budget), methods.index(c.method), c.seed))
    content = io.StringIO()
    writer = csv.DictWriter(content, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_record(cell, comparison.float_top1) for cell in cells)
    return _write(path, content.getvalue())


def write_markdown(summary: Summary, path: Path) -> Path:
    """
    Writes the answer and the tables.

    :param path: The file; an existing one is replaced.
    :return: ``path``.
    """
    comparison = summary.comparison
    parts = ["# Comparison", _escaped(comparison.about), *map(_escaped, what_was_compared(summary))]
    parts += map(_escaped, verdict(summary))
    parts += ["\n".join(f"- {_escaped(label)}: {_escaped(text)}" for label, text in answers(summary).items())]
    for table in (accuracy_table(summary), cost_table(summary), size_table(summary), setting_table(comparison)):
        parts += [f"## {table.title}", _escaped(table.about), _lines(table)]
        parts += ["\n".join(f"{number}. {_escaped(text)}" for number, text in enumerate(table.footnotes, 1))]
    parts += ["## Command", f"    {comparison.command}"]
    return _write(path, "\n\n".join(filter(None, parts)) + "\n")


def _record(cell: Cell, float_top1: float) -> dict[str, object]:
    record = {"method": cell.method, "budget": cell.budget, "seed": cell.seed, "status": cell.status}
    record |= {"reason": cell.reason, "float_top1": float_top1}
    record |= {key: cell.figures[key] for key in ("top1", *_FIGURES) if key in cell.figures}
    return record | ({"drop": float_top1 - cell.figures["top1"]} if "top1" in cell.figures else {})


def _lines(table: Table) -> str:
    is_grouped = any(row.group for row in table.rows)
    headings = (*(("budget",) if is_grouped else ()), *table.headings)
    rows = [_row([_escaped(heading) + _mark(table.heading_notes.get(heading)) for heading in headings])]
    rows.append(_row(["---" if place <= is_grouped else "---:" for place in range(len(headings))]))
    rows += [_row(_texts(row, is_grouped)) for row in table.rows]
    return "\n".join(rows)


def _texts(row: TableRow, is_grouped: bool) -> list[str]:
    return [_escaped(text) for text in ((row.group,) if is_grouped else ()) + (row.heading,)] + [
        _cell_text(cell) for cell in row.cells
    ]


def _cell_text(cell: TableCell) -> str:
    first, *others = map(_escaped, cell.lines)
    emphasis = _EMPHASIS[cell.mark]
    return f"{emphasis}{first}{emphasis}{''.join(f', {text}' for text in others)}{_mark(cell.note)}"


def _mark(note: int | None) -> str:
    return f" [{note}]" if note else ""


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _escaped(text: str) -> str:
    """Text on one line, without what Markdown takes for more than text."""
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", " ".join(text.split()))


def _write(path: Path, text: str) -> Path:
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline=""))
