"""The objective against the budget."""

from collections.abc import Mapping
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llt_nncf.plots.palette import VERMILLION
from llt_nncf.plots.palette import ranked_color
from llt_nncf.plots.panel_frame import open_frame
from llt_nncf.plots.picture_file import save_figure
from llt_nncf.plots.point_labels import POINTS_PER_INCH
from llt_nncf.plots.point_labels import label_points
from llt_nncf.plots.side_legend import side_legend

_LABELS = {
    "gbitops": "GBitOPs",
    "compression_ratio": "compression ratio",
    "weight_mib": "weights, MiB",
    "average_weight_bits": "bits per weight",
    "average_activation_bits": "activation bits per MAC",
    "latency_ms": "latency, ms",
}
_MOST_DOTS = 200
_STAR = 13  # points


def plot_frontier(
    axes: Sequence[str],
    points: Sequence[tuple[float, ...]],
    path: Path | str,
    *,
    marks: Mapping[str, tuple[float, float]] | None = None,
) -> Path:
    """
    Draws the objective over the first axis, one line for each value of a second one.

    :param axes: One or two names of budgets.
    :param points: (value on each axis, objective), in the order of the lines.
    :param path: The PNG or SVG file; an existing one is replaced.
    :param marks: Name to (value on the first axis, objective) of policies to point out.
    :return: ``path``.
    :raises ArtifactError: If the name ends in neither.
    """
    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
    panel = figure.subplots()
    levels = sorted({point[1] for point in points}) if len(axes) == 2 else [None]
    for rank, level in enumerate(levels):
        line = [(point[0], point[-1]) for point in points if level is None or point[1] == level]
        color = ranked_color(rank, len(levels))
        label = None if level is None else f"{level:.4g}"
        marker = "o-" if len(line) <= _MOST_DOTS else "-"
        panel.plot(*zip(*line, strict=True), marker, color=color, markersize=3, linewidth=1.3, label=label)
    marks = marks or {}
    for x, y in marks.values():
        panel.plot(
            x, y, "*", color=VERMILLION, markersize=_STAR, zorder=5, markeredgecolor="white", markeredgewidth=0.7
        )
    panel.set_xlabel(_LABELS[axes[0]])
    panel.set_ylabel("objective: sum of importance indicators")
    open_frame(panel)
    side_legend(figure, title=_LABELS[axes[-1]], fontsize=8, title_fontsize=8)
    figure.draw_without_rendering()  # settles the scales and the layout, which decide where there is room
    _label_marks(panel, marks)
    return save_figure(figure, path)


def _label_marks(panel: Axes, marks: Mapping[str, tuple[float, float]]) -> None:
    """Writes the names beside their stars; those of stars that cover each other in one label."""
    names_at: dict[tuple[float, float], list[str]] = {}
    star = _STAR * panel.figure.dpi / POINTS_PER_INCH
    for name, place in marks.items():
        (x, y), *others = panel.transData.transform([place, *names_at])
        covers = [abs(x - a) < star and abs(y - b) < star for a, b in others]
        names_at.setdefault(next(compress(names_at, covers), place), []).append(name)
    labels = ["\n".join(names) for names in names_at.values()]
    label_points(panel, list(names_at), labels, spreads=[0.0] * len(labels), drop=False)
