"""A legend beside the panel, for which the figure grows."""

import math
from typing import Any

from matplotlib.figure import Figure

_MOST_IN_A_COLUMN = 32


def side_legend(figure: Figure, **style: Any) -> None:
    """
    Puts what has a label into a legend at the right of the panel, if anything has one.

    More than 32 entries stand in several columns. The figure grows as high as the legend, and as wide as its further
    columns take, so that the panel keeps its size.

    :param figure: A figure with constrained layout, and with all that it shows.
    :param style: Of the legend, in matplotlib's words.
    """
    count = sum(len(axes.get_legend_handles_labels()[0]) for axes in figure.axes)
    if count == 0:
        return
    columns = math.ceil(count / _MOST_IN_A_COLUMN)
    legend = figure.legend(loc="outside right upper", frameon=False, ncols=columns, **style)
    figure.draw_without_rendering()  # settles the legend's size
    box = legend.get_window_extent()
    width, height = figure.get_size_inches()
    margins = 2 * (figure.bbox.y1 - box.y1)
    figure.set_size_inches(
        width + box.width * (1 - 1 / columns) / figure.dpi, max(height, (box.height + margins) / figure.dpi)
    )
