"""A horizontal axis of layers, and the figure that is wide enough for it."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llt_nncf.artifacts import write_atomically

_MAX_NAME = 28


def layer_figure(num_layers: int, *, height: float) -> Figure:
    """
    Returns an empty figure.

    :param num_layers: Each gets some room in width, within what a page shows.
    :param height: Inches.
    """
    return Figure(figsize=(min(max(6.4, 1.6 + 0.27 * num_layers), 18.0), height), dpi=150, layout="constrained")


def label_layers(axes: Axes, names: Sequence[str]) -> None:
    """Writes the layers' names below ``axes``, at 0, 1, 2...; long ones lose their beginning."""
    few = len(names) <= 12
    shown = [name if len(name) <= _MAX_NAME else "…" + name[1 - _MAX_NAME :] for name in names]
    axes.set_xticks(
        range(len(names)),
        shown,
        rotation=40 if few else 90,
        ha="right" if few else "center",
        rotation_mode="anchor" if few else "default",
        fontsize=9 if few else 8 if len(names) <= 30 else 7,
        parse_math=False,
    )
    axes.set_xlim(-0.7, len(names) - 0.3)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def ranked_color(rank: int, count: int) -> tuple[float, ...]:
    """Returns the color of the line ``rank`` of ``count`` that have an order: from dark to light, and no paler."""
    return colormaps["viridis"](0.9 * rank / max(1, count - 1))


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Writes ``figure`` as PNG, atomically."""
    return write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))
