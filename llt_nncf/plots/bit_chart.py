"""The bits of every layer as a bar chart."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.plots.layer_axis import layer_figure
from llt_nncf.plots.layer_axis import layer_rows
from llt_nncf.plots.palette import ACTIVATION_COLOR
from llt_nncf.plots.palette import WEIGHT_COLOR
from llt_nncf.plots.palette import pale
from llt_nncf.plots.picture_file import save_figure

_BAR_WIDTH = 0.38
_BAR_CENTER = 0.2
_DEPTHWISE_COLOR = "0.87"


def plot_bits(table: LayerTable, policy: BitPolicy, path: Path | str) -> Path:
    """
    Draws the bits of each layer's weights and input side by side, as Figure 1 of the LIMPQ paper.

    What was fixed beforehand is pale and hatched; depthwise layers stand on grey, where the table says which they are.

    :param table: The layers, in the order of the picture; many are drawn in several rows.
    :param policy: Their bits.
    :param path: The PNG or SVG file; an existing one is replaced.
    :return: ``path``.
    :raises ArtifactError: If the policy does not fit the layers, or the name ends in neither.
    """
    policy.check(table)
    figure, panels = layer_figure([layer.name for layer in table.layers], kinds=1, panel_height=2.5)
    for row, (axes,) in zip(layer_rows(len(table.layers)), panels, strict=True):
        for x in row:
            _draw_bars(axes, x, table.layers[x], *policy.bits[table.layers[x].name])
        axes.set_ylabel("bits")
    panels[0][0].set_yticks(range(max(max(pair) for pair in policy.bits.values()) + 1))
    figure.legend(
        handles=_keys(table, policy),
        loc="outside upper left",
        ncols=4,
        frameon=False,
        fontsize=9,
        handlelength=1.4,
        columnspacing=1.4,
    )
    return save_figure(figure, path)


def _draw_bars(axes: Axes, x: int, layer: Layer, weight_bits: int, activation_bits: int) -> None:
    if layer.depthwise:
        axes.axvspan(x - 0.5, x + 0.5, color=_DEPTHWISE_COLOR, linewidth=0, zorder=0)
    for offset, num_bits, candidates, color in (
        (-_BAR_CENTER, weight_bits, layer.weight_bits, WEIGHT_COLOR),
        (_BAR_CENTER, activation_bits, layer.activation_bits, ACTIVATION_COLOR),
    ):
        fixed = len(candidates) == 1
        face = pale(color) if fixed else color
        hatch = "////" * fixed
        axes.bar(x + offset, num_bits, _BAR_WIDTH, facecolor=face, edgecolor=color, hatch=hatch, linewidth=0.6)


def _keys(table: LayerTable, policy: BitPolicy) -> list[Patch]:
    weight_count = sum(layer.weight_count for layer in table.layers)
    macs = sum(layer.macs for layer in table.layers)
    per_weight = sum(layer.weight_count * policy.bits[layer.name][0] for layer in table.layers) / weight_count
    per_mac = sum(layer.macs * policy.bits[layer.name][1] for layer in table.layers) / macs
    keys = [
        Patch(color=WEIGHT_COLOR, label=f"weights ({per_weight:.2f} bits per weight)"),
        Patch(color=ACTIVATION_COLOR, label=f"activations ({per_mac:.2f} bits per MAC)"),
    ]
    if any(len(layer.weight_bits) == 1 or len(layer.activation_bits) == 1 for layer in table.layers):
        keys.append(Patch(facecolor="0.93", edgecolor="0.45", hatch="////", label="fixed"))
    if any(layer.depthwise for layer in table.layers):
        keys.append(Patch(color=_DEPTHWISE_COLOR, label="depthwise"))
    return keys
