"""Names beside points, where there is room."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_FONT_SIZE = 7.5
POINTS_PER_INCH = 72
_MARKER_RADIUS = 4.5  # in points, a little more than it is drawn with
_GAP = 6
_SAME_LABEL_INCHES = 0.5

# Offset in points, and the alignment that goes with it; the first that is free is taken.
_SIDES = (
    ((_GAP, _GAP / 2), "left", "bottom"),
    ((-_GAP, _GAP / 2), "right", "bottom"),
    ((_GAP, -_GAP / 2), "left", "top"),
    ((-_GAP, -_GAP / 2), "right", "top"),
    ((0, _GAP), "center", "bottom"),
    ((0, -_GAP), "center", "top"),
)


def label_points(
    axes: Axes,
    places: Sequence[tuple[float, float]],
    labels: Sequence[str],
    *,
    spreads: Sequence[float],
    levels: Sequence[float] = (),
    drop: bool = True,
) -> list[Annotation]:
    """
    Writes each label beside its point, unless it would cover a point, an error bar, a level or another label, or leave
    ``axes``.

    Where points with the same label are less than half an inch apart horizontally, it is written once. The labels
    change nothing in the layout of the figure.

    :param axes: The panel, with its final scales and at its final place (``draw_without_rendering``).
    :param places: The points, those first whose labels matter most.
    :param labels: Their labels.
    :param spreads: Half the height of each point's error bar, in the units of the vertical axis.
    :param levels: Where horizontal lines are that shall be left free.
    :param drop: Leaves out the labels that find no room; otherwise they are written all the same, and the layout makes
        room for them.
    :return: The labels that are written.
    """
    taken = [box for place, spread in zip(places, spreads, strict=True) for box in _boxes_of_point(axes, place, spread)]
    heights = [axes.transData.transform((1, level))[1] for level in levels]
    taken += [Bbox([(axes.bbox.x0, y), (axes.bbox.x1, y)]) for y in heights]
    written: list[Annotation] = []
    for place, label in zip(places, labels, strict=True):
        if any(text.get_text() == label and _is_near(axes, text.xy, place) for text in written):
            continue
        for side in _SIDES:
            text = _write(axes, place, label, *side)
            box = text.get_window_extent()
            if _is_inside(box, axes.bbox) and not any(box.overlaps(other) for other in taken):
                text.set_in_layout(False)
                taken.append(box)
                written.append(text)
                break
            text.remove()
        else:
            if not drop:
                written.append(_write(axes, place, label, *_SIDES[0]))
    return written


def _write(
    axes: Axes, place: tuple[float, float], label: str, offset: tuple[float, float], across: str, upright: str
) -> Annotation:
    return axes.annotate(
        label,
        place,
        xytext=offset,
        textcoords="offset points",
        ha=across,
        va=upright,
        fontsize=_FONT_SIZE,
        color="0.25",
        parse_math=False,
        zorder=4,
    )


def _boxes_of_point(axes: Axes, place: tuple[float, float], spread: float) -> list[Bbox]:
    (x, y), (_, low), (_, high) = axes.transData.transform(
        [place, (place[0], place[1] - spread), (place[0], place[1] + spread)]
    )
    radius = _MARKER_RADIUS * axes.figure.dpi / POINTS_PER_INCH
    marker = Bbox([(x - radius, y - radius), (x + radius, y + radius)])
    return [marker, Bbox([(x - radius / 2, low), (x + radius / 2, high)])] if spread > 0 else [marker]


def _is_near(axes: Axes, one: tuple[float, float], other: tuple[float, float]) -> bool:
    (x, _), (other_x, _) = axes.transData.transform([one, other])
    return abs(x - other_x) < _SAME_LABEL_INCHES * axes.figure.dpi


def _is_inside(box: Bbox, frame: Bbox) -> bool:
    return box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
