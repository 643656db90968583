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


def test_no_curves_give_an_empty_picture(tmp_path: Path):
    assert plot_losses({}, tmp_path / "losses.png").stat().st_size > 1000
