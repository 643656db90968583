"""Readers who lack one kind of cone tell the colours apart; seen through published simulations, measured in CIELAB."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from llt_nncf.plots.palette import ACTIVATION_COLOR
from llt_nncf.plots.palette import COLORS
from llt_nncf.plots.palette import SAMPLED_COLOR
from llt_nncf.plots.palette import WEIGHT_COLOR
from llt_nncf.plots.palette import pale
from llt_nncf.plots.palette import ranked_color
from llt_nncf.plots.palette import series_style

# Machado, Oliveira and Fernandes, IEEE TVCG 2009, severity 1.0, for linear RGB.
SEEN = {
    "all-cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# sRGB to CIE XYZ, IEC 61966-2-1.
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# A difference of 2.3 is just noticed where two colours touch (Mahy et al., 1994); thin lines apart need far more.
LEAST = 15


def lab(color, simulation: np.ndarray) -> np.ndarray:
    """CIELAB of a colour as it is seen."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(simulation @ linear, 0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def least_distance(colors, simulation: np.ndarray) -> float:
    return min(float(np.linalg.norm(lab(a, simulation) - lab(b, simulation))) for a, b in combinations(colors, 2))


@pytest.mark.parametrize("simulation", SEEN.values(), ids=SEEN)
def test_every_two_colours_that_stand_in_one_picture_differ(simulation: np.ndarray):
    assert least_distance(COLORS, simulation) > LEAST
    assert least_distance([WEIGHT_COLOR, ACTIVATION_COLOR, "white"], simulation) > 2 * LEAST
    assert least_distance([pale(WEIGHT_COLOR), pale(ACTIVATION_COLOR), "white"], simulation) > LEAST / 2  # and hatched
    # The five bit-widths of the paper, and the sampled policy among them.
    assert least_distance([*(ranked_color(rank, 5) for rank in range(5)), SAMPLED_COLOR], simulation) > LEAST
    assert all(least_distance([color, "white"], simulation) > 2 * LEAST for color in COLORS)


def test_red_and_green_are_found_to_be_alike_by_the_measure_itself():
    assert least_distance(["#b05000", "#6f7a00"], SEEN["all-cones"]) > 2 * LEAST
    assert least_distance(["#b05000", "#6f7a00"], SEEN["deuteranopia"]) < LEAST


def test_styles_do_not_depend_on_colour_alone():
    styles = [series_style(rank) for rank in range(20)]
    assert len({(style.color, style.line) for style in styles}) == 20
    assert len({(style.color, style.marker) for style in styles}) == 20
    for color in COLORS:
        alike = [style for style in styles if style.color == color]
        assert len({style.marker for style in alike}) == len({style.line for style in alike}) == len(alike)
