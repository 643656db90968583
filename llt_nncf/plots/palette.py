"""The colours of all pictures, which readers can tell apart whichever of the eye's three kinds of cone they lack."""

from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.colors import to_rgb

# Okabe and Ito, Color Universal Design (2008), in an order in which neighbours differ most; their yellow is left out,
# for it is too pale for a line on white.
BLUE, VERMILLION, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
ORANGE, PURPLE, SKY_BLUE = "#E69F00", "#CC79A7", "#56B4E9"
COLORS = (BLUE, VERMILLION, GREEN, BLACK, ORANGE, PURPLE, SKY_BLUE)

WEIGHT_COLOR = BLUE
ACTIVATION_COLOR = ORANGE
# Of the true colours it is farthest from those of `ranked_color`, among which it stands.
SAMPLED_COLOR = VERMILLION

_MARKERS = "osD^vPX<>"
_LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class SeriesStyle:
    """
    How one of several curves is drawn.

    :param color: A name that matplotlib knows.
    :param marker: The shape of its points.
    :param line: The style of its line.
    """

    color: str
    marker: str
    line: str


def series_style(rank: int) -> SeriesStyle:
    """
    Returns the style of one of several curves that have no order.

    Of 28 the pairs of colour and line are all different, and those of colour and marker of 63.

    :param rank: From 0.
    """
    lap, place = divmod(rank, len(COLORS))
    return SeriesStyle(COLORS[place], _MARKERS[rank % len(_MARKERS)], _LINES[lap % len(_LINES)])


def pale(color: str) -> tuple[float, ...]:
    """Returns ``color`` on white at an opacity of 1/4: with a true opacity, SVG would thin hatches, too."""
    return tuple(1 - (1 - part) / 4 for part in to_rgb(color))


def ranked_color(rank: int, count: int) -> tuple[float, ...]:
    """Returns the color of the line ``rank`` of ``count`` that have an order: from dark to light, and no paler."""
    return colormaps["viridis"](0.9 * rank / max(1, count - 1))
