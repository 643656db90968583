"""The one form of all tables of figures in the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table


def figure_table(title: str, first: str, *others: str) -> Table:
    """Returns an empty table: names in the first column, figures in the others."""
    table = _PlainTable(title=title, title_justify="left", title_style="bold")
    table.add_column(first, overflow="fold")
    for heading in others:
        # Long names in the first column must not squeeze the figures.
        table.add_column(escape(heading), justify="right", min_width=max(len(word) for word in heading.split()))
    return table


class _PlainTable(Table):
    """Takes square brackets in its cells, of names of files, layers and figures, as they are."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(escape(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def number(value: float | None) -> str:
    """
    Returns at least four digits, or nothing.

    >>> number(0.0523187), number(31234.56), number(None)
    ('0.05232', '31235', '')
    """
    return "" if value is None else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def ratio(value: float | None, quartiles: Sequence[float] = (), separator: str = "\n") -> str:
    """
    Returns a ratio with its quartiles.

    >>> ratio(2.208, [2.15, 2.251], " "), ratio(None)
    ('2.21x (2.15-2.25)', '')
    """
    spread = f"{separator}({quartiles[0]:.2f}-{quartiles[1]:.2f})" if quartiles else ""
    return "" if value is None else f"{value:.2f}x{spread}"
