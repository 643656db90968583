"""A curve over the optimizer steps."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes


def draw_curve(axes: Axes, points: Mapping[int, float], *, marker: str = "o", **style: Any) -> None:
    """
    Draws the points joined by a line; a single one, which has no line, as a marker.

    :param axes: The panel.
    :param points: Step to value, in the order of the line.
    :param marker: Shape of a single point.
    :param style: Of the line, in matplotlib's words.
    """
    axes.plot(list(points), list(points.values()), marker=marker if len(points) == 1 else "", **style)
