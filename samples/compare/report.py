"""The report of a comparison: one HTML file with everything in it, the same tables as files, and the pictures."""

import base64
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from findings import answers
from findings import verdict
from findings import what_was_compared
from jinja2 import Environment
from jinja2 import FileSystemLoader
from jinja2 import StrictUndefined
from pictures import Picture
from pictures import all_pictures
from results import Comparison
from summary import Summary
from table_files import write_csv
from table_files import write_markdown
from tables import TableRow
from tables import accuracy_table
from tables import bit_table
from tables import cost_table
from tables import setting_table
from tables import size_table

from llt_nncf.artifacts import write_atomically

_TEMPLATE = "report.html.jinja"
_FORMATS = ("png", "svg")


def write_report(comparison: Comparison, out: Path) -> list[Path]:
    """
    Writes ``report.html``, ``results.md``, ``results.csv``, and the pictures as PNG and SVG in ``pictures``.

    The HTML file needs no other file, no script and no network.

    :param comparison: Complete or not: what is missing is said.
    :param out: The folder; existing files are replaced.
    :return: All files.
    """
    summary = Summary(comparison)
    folder = out / "pictures"
    pictures = all_pictures(summary)
    files = {folder / f"{picture.name}.{ending}": picture for picture in pictures for ending in _FORMATS}
    for path, picture in files.items():
        picture.draw(path)
    text = render_html(summary, pictures, folder)
    report = write_atomically(out / "report.html", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    tables = [write_markdown(summary, out / "results.md"), write_csv(comparison, out / "results.csv")]
    return [report, *tables, *files]


def render_html(summary: Summary, pictures: Sequence[Picture], folder: Path) -> str:
    """
    Returns the report as HTML.

    :param summary: Of the comparison.
    :param pictures: In the order of the report.
    :param folder: Where they are as PNG files.
    """
    comparison = summary.comparison
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": lambda picture: _data_uri(folder / f"{picture.name}.png"), "grouped": _grouped}
    bit_tables = [bit_table(summary, budget) for budget in summary.budgets]
    return environment.get_template(_TEMPLATE).render(
        comparison=comparison,
        introduction=what_was_compared(summary),
        answers=answers(summary),
        verdict=verdict(summary),
        accuracy=accuracy_table(summary),
        cost=cost_table(summary),
        size=size_table(summary),
        bit_tables=[table for table in bit_tables if table],
        setting=setting_table(comparison),
        pictures={kind: list(own) for kind, own in groupby(pictures, lambda picture: picture.kind)},
        config=json.dumps(comparison.config, indent=2, ensure_ascii=False),
    )


def _data_uri(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"


def _grouped(rows: tuple[TableRow, ...]) -> list[tuple[str, list[TableRow]]]:
    """Rows that are shown under one heading."""
    return [(group, list(own)) for group, own in groupby(rows, lambda row: row.group)]
