"""Losses of fine-tuning."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from llt_nncf.plots import plot_losses


def test_short_curves_are_drawn_as_they_are(drawn: list[Figure]):
    plot_losses({"a": {1: 3.0, 11: 2.0, 21: 1.5}, "b": {21: 1.0, 1: 4.0}}, "unused.png")
    (axes,) = drawn[0].axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 3], [11, 2], [21, 1.5]], [[1, 4], [21, 1]]]
    assert axes.get_ylabel() == "loss"
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["a", "b"]
    assert axes.lines[0].get_color() != axes.lines[1].get_color()


def test_long_curves_are_smoothed_over_one_window_and_the_axis_says_so(drawn: list[Figure]):
    values = np.random.default_rng(0).normal(size=250)
    noisy = dict(zip(range(1, 251), values.tolist(), strict=True))
    plot_losses({"noisy": noisy, "flat": dict.fromkeys(range(1, 1001), 2.0)}, "unused.png", y_label="cross-entropy")
    (axes,) = drawn[0].axes
    # A fiftieth of the shorter one.
    assert axes.get_ylabel() == "cross-entropy, mean of the last 5 points"
    x, y = axes.lines[0].get_data()
    assert x.tolist() == list(range(5, 251))
    np.testing.assert_allclose(y, [values[i - 5 : i].mean() for i in range(5, 251)])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), 2.0)


def test_a_curve_of_one_point_is_a_marker(drawn: list[Figure]):
    plot_losses({"a": {1: 3.0}, "b": {1: 4.0, 2: 3.5}}, "unused.png")
    one, two = drawn[0].axes[0].lines
    assert one.get_marker() in "osD^"
    assert two.get_marker() == ""


def test_the_legend_of_as_many_curves_as_there_are_styles_is_inside_the_picture(drawn: list[Figure]):
    plot_losses({f"method {i}": {1: 3.0, 2: 2.0} for i in range(28)}, "unused.png")
    drawn[0].draw_without_rendering()
    assert len(drawn[0].legends[0].get_texts()) == 28
    assert drawn[0].legends[0].get_window_extent().y0 >= 0


def test_no_curves_give_an_empty_picture(tmp_path: Path):
    assert plot_losses({}, tmp_path / "losses.png").stat().st_size > 1000
