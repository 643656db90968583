"""The losses of several trainings as curves."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from llt_nncf.plots.curve import draw_curve
from llt_nncf.plots.palette import series_style
from llt_nncf.plots.panel_frame import open_frame
from llt_nncf.plots.picture_file import save_figure
from llt_nncf.plots.side_legend import side_legend

# A curve is smoothed over this share of its points, which few points are spared by.
_SMOOTHED_SHARE = 1 / 50


def plot_losses(curves: Mapping[str, Mapping[int, float]], path: Path | str, *, y_label: str = "loss") -> Path:
    """
    Draws a curve for each training, of a single point its marker. Those of 100 points or more are smoothed, and the
    vertical axis says so.

    :param curves: Name to (optimizer step to loss), as they shall stand in the legend.
    :param path: The PNG or SVG file; an existing one is replaced.
    :param y_label: What is drawn.
    :return: ``path``.
    :raises ArtifactError: If the name ends in neither.
    """
    figure = Figure(figsize=(9.6, 4.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    open_frame(axes, grid="y")
    # One window for all, so that one sentence is true of all.
    window = max(1, int(min(map(len, curves.values()), default=0) * _SMOOTHED_SHARE))
    for rank, (name, losses) in enumerate(curves.items()):
        steps = sorted(losses)
        means = np.convolve([losses[step] for step in steps], np.full(window, 1 / window), "valid")
        style = series_style(rank)
        points = dict(zip(steps[window - 1 :], means, strict=True))
        draw_curve(
            axes, points, marker=style.marker, linestyle=style.line, color=style.color, linewidth=1.3, label=name
        )
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(y_label if window == 1 else f"{y_label}, mean of the last {window} points")
    side_legend(figure, fontsize=8.5, handlelength=3)
    return save_figure(figure, path)
