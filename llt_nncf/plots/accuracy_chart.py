"""Top-1 against what a model costs, all methods in one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from matplotlib.ticker import NullFormatter

from llt_nncf.plots.palette import series_style
from llt_nncf.plots.panel_frame import open_frame
from llt_nncf.plots.picture_file import save_figure
from llt_nncf.plots.point_labels import label_points
from llt_nncf.plots.side_legend import side_legend

_LOG_FROM = 4.0
_APART = 1.02


@dataclass(frozen=True)
class AccuracyPoint:
    """
    A method at a budget, over all seeds.

    :param method: What the legend calls it.
    :param label: Name of the budget.
    :param cost: What the model costs there, positive, in the unit of the picture's axis.
    :param top1_mean: Mean over the seeds, percent.
    :param top1_spread: Standard deviation over the seeds, percentage points; 0 for one seed.
    """

    method: str
    label: str
    cost: float
    top1_mean: float
    top1_spread: float


def plot_accuracy(
    points: Sequence[AccuracyPoint], path: Path | str, *, x_label: str, float_top1: float | None = None
) -> Path:
    """
    Draws the mean top-1 of every point over its cost, with its spread, and the Pareto front of all points.

    The points of each method are joined, unless there is a method with points of the same cost (within 2 %). Names of
    budgets stand where there is room for them. The axis of the cost is logarithmic if the largest is four times the
    smallest or more.

    :param points: Methods stand in the legend as they first come here.
    :param path: The PNG or SVG file; an existing one is replaced.
    :param x_label: What the cost is, with its unit.
    :param float_top1: Of the float model, percent; drawn as a line.
    :return: ``path``.
    :raises ArtifactError: If the name ends in neither.
    """
    figure = Figure(figsize=(9.6, 5.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    open_frame(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel("top-1, %")
    axes.margins(x=0.06, y=0.06)
    levels = [] if float_top1 is None else [float_top1]
    for level in levels:
        axes.axhline(level, color="0.35", linestyle=(0, (6, 3)), linewidth=1.0, zorder=1, label="float")
    front = _pareto_front(points)
    if front:
        steps = ([point.cost for point in front], [point.top1_mean for point in front])
        axes.plot(*steps, drawstyle="steps-post", color="0.8", linewidth=4, zorder=1, label="Pareto front")
    _draw_methods(axes, points)
    _scale_costs(axes, [point.cost for point in points])
    side_legend(figure, fontsize=8.5, labelspacing=0.6)
    figure.draw_without_rendering()  # settles the scales and the layout, which decide where there is room
    by_rank = [*front, *sorted((p for p in points if p not in front), key=lambda point: -point.top1_mean)]
    places = [(point.cost, point.top1_mean) for point in by_rank]
    spreads = [point.top1_spread for point in by_rank]
    label_points(axes, places, [point.label for point in by_rank], spreads=spreads, levels=levels)
    return save_figure(figure, path)


def _pareto_front(points: Sequence[AccuracyPoint]) -> list[AccuracyPoint]:
    """The points to which no other is superior: none that costs no more is as accurate; by cost."""
    front: list[AccuracyPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.top1_mean)):
        if not front or point.top1_mean > front[-1].top1_mean:
            front.append(point)
    return front


def _draw_methods(axes: Axes, points: Sequence[AccuracyPoint]) -> None:
    methods = dict.fromkeys(point.method for point in points)
    series = [sorted((p for p in points if p.method == method), key=lambda point: point.cost) for method in methods]
    # A line through points above each other says nothing, and crosses all others.
    is_joined = all(after.cost > _APART * before.cost for own in series for before, after in pairwise(own))
    for rank, own in enumerate(series):
        _draw_method(axes, rank, own, is_joined=is_joined)


def _draw_method(axes: Axes, rank: int, points: Sequence[AccuracyPoint], *, is_joined: bool) -> None:
    style = series_style(rank)
    costs = [point.cost for point in points]
    means = [point.top1_mean for point in points]
    if is_joined:
        axes.plot(costs, means, style.line, color=style.color, linewidth=0.9, alpha=0.5, zorder=2)
    axes.errorbar(
        costs,
        means,
        yerr=[point.top1_spread for point in points],
        fmt=style.marker,
        color=style.color,
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        elinewidth=1.2,
        capsize=2.5,
        zorder=3 - rank / 100,  # the first method is drawn over the others
        label=points[0].method,
    )


def _scale_costs(axes: Axes, costs: Sequence[float]) -> None:
    if not costs or max(costs) < _LOG_FROM * min(costs):
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
