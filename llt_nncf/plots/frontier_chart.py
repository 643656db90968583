"""The objective against the budget."""

from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from llt_nncf.plots.palette import VERMILLION
from llt_nncf.plots.palette import ranked_color
from llt_nncf.plots.panel_frame import open_frame
from llt_nncf.plots.picture_file import save_figure

_LABELS = {
    "gbitops": "GBitOPs",
    "compression_ratio": "compression ratio",
    "weight_mib": "weights, MiB",
    "average_weight_bits": "bits per weight",
    "average_activation_bits": "activation bits per MAC",
    "latency_ms": "latency, ms",
}
_MOST_DOTS = 200


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
    for number, (name, place) in enumerate((marks or {}).items()):
        panel.plot(*place, "*", color=VERMILLION, markersize=13, zorder=5, markeredgecolor="white", markeredgewidth=0.7)
        panel.annotate(
            name, place, xytext=(8, 8 + 12 * number), textcoords="offset points", fontsize=9, parse_math=False
        )
    panel.set_xlabel(_LABELS[axes[0]])
    panel.set_ylabel("objective: sum of importance indicators")
    open_frame(panel)
    if len(axes) == 2 and points:
        title = _LABELS[axes[1]]
        figure.legend(title=title, loc="outside right upper", frameon=False, fontsize=8, title_fontsize=8)
    return save_figure(figure, path)
