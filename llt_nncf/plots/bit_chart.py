"""The bits of every layer as a bar chart."""

from pathlib import Path

from matplotlib.patches import Patch

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.plots.layer_axis import label_layers
from llt_nncf.plots.layer_axis import layer_figure
from llt_nncf.plots.layer_axis import save_figure

_WEIGHT_COLOR = "#2f6690"
_ACTIVATION_COLOR = "#f2a541"
_BAR_WIDTH = 0.38
_BAR_CENTER = 0.2


def plot_bits(table: LayerTable, policy: BitPolicy, path: Path | str) -> Path:
    """
    Draws the bits of each layer's weights and input side by side; what was fixed beforehand is pale and hatched.

    :param table: The layers, in the order of the picture.
    :param policy: Their bits.
    :param path: The PNG file; an existing one is replaced.
    :return: ``path``.
    :raises ArtifactError: If the policy does not fit the layers.
    """
    policy.check(table)
    bits = [policy.bits[layer.name] for layer in table.layers]
    counts = [layer.weight_count for layer in table.layers]
    macs = [layer.macs for layer in table.layers]
    per_weight = sum(n * w for n, (w, _) in zip(counts, bits, strict=True)) / sum(counts)
    per_mac = sum(n * a for n, (_, a) in zip(macs, bits, strict=True)) / sum(macs)

    figure = layer_figure(len(bits), height=4.2)
    axes = figure.subplots()
    for x, (layer, (weight_bits, activation_bits)) in enumerate(zip(table.layers, bits, strict=True)):
        for offset, num_bits, candidates, color in (
            (-_BAR_CENTER, weight_bits, layer.weight_bits, _WEIGHT_COLOR),
            (_BAR_CENTER, activation_bits, layer.activation_bits, _ACTIVATION_COLOR),
        ):
            fixed = len(candidates) == 1
            face = (color, 0.25) if fixed else color
            axes.bar(
                x + offset, num_bits, _BAR_WIDTH, facecolor=face, edgecolor=color, hatch="////" * fixed, linewidth=0.6
            )
    label_layers(axes, [layer.name for layer in table.layers])
    axes.set_ylabel("bits")
    axes.set_yticks(range(max(max(pair) for pair in bits) + 1))
    axes.grid(axis="y", color="0.88", linewidth=0.8)
    keys = [
        Patch(color=_WEIGHT_COLOR, label=f"weights ({per_weight:.2f} bits per weight)"),
        Patch(color=_ACTIVATION_COLOR, label=f"activations ({per_mac:.2f} bits per MAC)"),
    ]
    if any(len(layer.weight_bits) == 1 or len(layer.activation_bits) == 1 for layer in table.layers):
        keys.append(Patch(facecolor="0.93", edgecolor="0.45", hatch="////", label="fixed"))
    figure.legend(handles=keys, loc="outside upper left", ncols=3, frameon=False, fontsize=9, handlelength=1.4)
    return save_figure(figure, path)
