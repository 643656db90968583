"""The importance indicators of every layer as lines."""

import math
from pathlib import Path

from matplotlib.ticker import LogLocator
from matplotlib.ticker import NullFormatter

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.plots.layer_axis import label_layers
from llt_nncf.plots.layer_axis import layer_figure
from llt_nncf.plots.layer_axis import ranked_color
from llt_nncf.plots.layer_axis import save_figure


def plot_indicators(indicators: IndicatorTable, path: Path | str) -> Path:
    """
    Draws the indicators of the weights and of the inputs over the layers, one line per bit-width, in two panels.

    :param indicators: The indicators; layers at which nothing is chosen are left out.
    :param path: The PNG file; an existing one is replaced.
    :return: ``path``.
    """
    layers = [layer for layer in indicators.table.layers if not layer.is_fixed]
    weights = [indicators.weights.get(layer.name, {}) for layer in layers]
    activations = [indicators.activations.get(layer.activation_group, {}) for layer in layers]
    all_bits = sorted({bits for values in (*weights, *activations) for bits in values}, reverse=True)

    figure = layer_figure(len(layers), height=6.2)
    panels = figure.subplots(2, sharex=True)
    for axes, title, rows in zip(panels, ("weight", "activation"), (weights, activations), strict=True):
        for rank, num_bits in enumerate(all_bits):
            color = ranked_color(rank, len(all_bits))
            # A gap where a layer has no such candidate, or where it is zero, which a log scale does not have.
            values = [row.get(num_bits) or math.nan for row in rows]
            axes.plot(values, "o-", color=color, markersize=3.5, linewidth=1.3, label=f"{num_bits} bits")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel(f"{title} indicator")
        axes.grid(axis="y", which="major", color="0.85", linewidth=0.8)
        axes.grid(axis="x", color="0.93", linewidth=0.6)
        label_layers(axes, [layer.name for layer in layers])
    panels[0].tick_params(labelbottom=False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=max(1, len(all_bits)), frameon=False, fontsize=9)
    return save_figure(figure, path)
