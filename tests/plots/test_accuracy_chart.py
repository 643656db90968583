"""Top-1 against cost."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from llt_nncf.plots import AccuracyPoint
from llt_nncf.plots import plot_accuracy

POINTS = [
    AccuracyPoint("uniform", "W2A2", 1.0, 85.0, 0.3),
    AccuracyPoint("uniform", "W4A4", 2.0, 91.0, 0.1),
    AccuracyPoint("ours", "W2A2", 1.05, 88.0, 0.2),
    AccuracyPoint("ours", "W4A4", 1.9, 91.5, 0.0),
]


def draw(drawn: list[Figure], points: list[AccuracyPoint], **options) -> Figure:
    plot_accuracy(points, "unused.png", x_label="BitOPs, 1e9", **options)
    return drawn[-1]


def line(figure: Figure, label: str) -> np.ndarray:
    (found,) = [line for line in figure.axes[0].lines if line.get_label() == label]
    return found.get_xydata()


def test_each_method_has_its_means_with_their_spread_and_an_entry_in_the_legend(drawn: list[Figure]):
    figure = draw(drawn, POINTS, float_top1=92.5)
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["float", "Pareto front", "uniform", "ours"]
    uniform, ours = axes.containers
    assert uniform.lines[0].get_xydata().tolist() == [[1, 85], [2, 91]]
    assert ours.lines[0].get_xydata().tolist() == [[1.05, 88], [1.9, 91.5]]
    (bars,) = uniform.lines[2]
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], [[84.7, 85.3], [90.9, 91.1]])
    assert line(figure, "float")[:, 1].tolist() == [92.5, 92.5]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("BitOPs, 1e9", "top-1, %")


def test_the_pareto_front_is_what_brute_force_finds(drawn: list[Figure]):
    generator = np.random.default_rng(0)
    # On a lattice, so that there are ties in either coordinate and in both; more cost, more accuracy, with noise.
    costs = generator.integers(1, 12, 40)
    places = np.stack([costs, costs + generator.integers(-4, 4, 40)], axis=1).astype(float)
    figure = draw(drawn, [AccuracyPoint("m", f"{i}", *place, 0.0) for i, place in enumerate(places)])
    expected = {
        (x, y)
        for x, y in places.tolist()
        if not any((a <= x and b > y) or (a < x and b >= y) for a, b in places.tolist())
    }
    assert [tuple(place) for place in line(figure, "Pareto front").tolist()] == sorted(expected)
    assert len(expected) > 2


def test_points_are_joined_unless_a_method_has_two_of_the_same_cost(drawn: list[Figure]):
    def joined(points):
        figure = draw(drawn, points)
        return [line for line in figure.axes[0].lines if line.get_linestyle() == "-" and line.get_alpha() == 0.5]

    assert [line.get_xdata().tolist() for line in joined(POINTS)] == [[1, 2], [1.05, 1.9]]
    assert joined([*POINTS, AccuracyPoint("ours", "W4A8", 1.9, 91.6, 0.0)]) == []


def test_costs_that_span_a_factor_of_four_get_a_logarithmic_axis(drawn: list[Figure]):
    assert draw(drawn, POINTS).axes[0].get_xscale() == "linear"
    assert draw(drawn, [*POINTS, AccuracyPoint("8 bits", "W8A8", 16.0, 92.0, 0.1)]).axes[0].get_xscale() == "log"


def crowd(methods: int) -> list[AccuracyPoint]:
    generator = np.random.default_rng(1)
    budgets = {"W2A2": 0.17, "W3A3": 0.38, "W3A4": 0.5, "W4A4": 0.66, "2.5-bit weights": 0.9, "3-bit weights": 1.05}
    return [
        AccuracyPoint(f"method {m}", name, cost * generator.uniform(0.97, 1), generator.uniform(88, 91), 0.2)
        for m in range(methods)
        for name, cost in budgets.items()
    ]


@pytest.mark.parametrize("methods", [2, 7, 20])
def test_names_of_budgets_cover_neither_points_nor_error_bars_nor_float_nor_each_other(
    methods: int, drawn: list[Figure]
):
    points = crowd(methods)
    figure = draw(drawn, points, float_top1=max(point.top1_mean for point in points) + 0.1)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (_, level), _ = axes.transData.transform(line(figure, "float"))
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) >= 3
    assert len(axes.texts) < 30  # a name stands once where several methods meet
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    for point in points:
        for y in (point.top1_mean - 0.2, point.top1_mean, point.top1_mean + 0.2):
            assert not any(box.contains(*axes.transData.transform((point.cost, y))) for box in boxes)
    for box in boxes:
        assert not box.y0 <= level <= box.y1
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1
    by_place = {(point.cost, point.top1_mean): point.label for point in points}
    assert all(by_place[text.xy] == text.get_text() for text in axes.texts)


@pytest.mark.parametrize("methods", [2, 20, 28, 80])
def test_the_legend_of_many_methods_is_inside_the_picture_beside_the_panel(methods: int, drawn: list[Figure]):
    figure = draw(drawn, crowd(methods), float_top1=92.0)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert len(figure.legends[0].get_texts()) == methods + 2
    assert box.x0 >= figure.axes[0].bbox.x1
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0
    # The panel keeps its size, and the picture a shape for a page.
    assert figure.axes[0].bbox.width / figure.dpi > 6
    assert figure.get_size_inches()[1] < 7


def test_no_points_give_an_empty_picture(tmp_path: Path):
    assert plot_accuracy([], tmp_path / "accuracy.png", x_label="MiB").stat().st_size > 1000
