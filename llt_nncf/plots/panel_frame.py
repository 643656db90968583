"""The frame of a panel."""

from typing import Literal

from matplotlib.axes import Axes


def open_frame(axes: Axes, *, grid: Literal["both", "x", "y"] = "both") -> None:
    """
    Leaves the frame open at the top and at the right, and draws a pale grid behind everything.

    :param axes: The panel.
    :param grid: The axes whose ticks have lines.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, which="major", color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
