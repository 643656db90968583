"""The importance indicators of every layer as lines."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator
from matplotlib.ticker import NullFormatter

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.errors import ArtifactError
from llt_nncf.plots.layer_axis import layer_figure
from llt_nncf.plots.layer_axis import layer_rows
from llt_nncf.plots.palette import ranked_color
from llt_nncf.plots.picture_file import save_figure


def plot_indicators(indicators: IndicatorTable, path: Path | str) -> Path:
    """
    Draws the indicators of the weights and of the inputs over the layers, one line per bit-width, in two panels.

    :param indicators: The indicators; layers at which nothing is chosen are left out, many drawn in several rows.
    :param path: The PNG or SVG file; an existing one is replaced.
    :return: ``path``.
    :raises ArtifactError: If every layer is fixed, or the name ends in neither.
    """
    layers = [layer for layer in indicators.table.layers if not layer.is_fixed]
    if not layers:
        msg = "Every layer of the indicators has one bit-width, so nothing is chosen and there is nothing to draw."
        raise ArtifactError(msg)
    weights = [indicators.weights.get(layer.name, {}) for layer in layers]
    activations = [indicators.activations.get(layer.activation_group, {}) for layer in layers]
    all_bits = sorted({bits for values in (*weights, *activations) for bits in values}, reverse=True)

    figure, panels = layer_figure([layer.name for layer in layers], kinds=2, panel_height=2.3)
    for places, row_panels in zip(layer_rows(len(layers)), panels, strict=True):
        for axes, title, values in zip(row_panels, ("weight", "activation"), (weights, activations), strict=True):
            _draw_lines(axes, places, values[places.start : places.stop], all_bits)
            axes.set_ylabel(f"{title} indicator")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(all_bits), frameon=False, fontsize=9)
    return save_figure(figure, path)


def _draw_lines(axes: Axes, places: range, rows: Sequence[Mapping[int, float]], all_bits: Sequence[int]) -> None:
    for rank, num_bits in enumerate(all_bits):
        # A gap where a layer has no such candidate, or where it is zero, which a log scale does not have.
        values = [row.get(num_bits) or math.nan for row in rows]
        color = ranked_color(rank, len(all_bits))
        axes.plot(places, values, "o-", color=color, markersize=3.5, linewidth=1.3, label=f"{num_bits} bits")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color="0.93", linewidth=0.6)
