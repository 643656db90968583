"""Names of layers do not overlap, whatever their number; measured with the renderer of the PNG files."""

import math
from itertools import pairwise

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.plots import plot_bits
from llt_nncf.plots import plot_indicators
from llt_nncf.plots.layer_axis import short_names

BITS = (6, 4, 2)


def draw_bits(table: LayerTable) -> None:
    policy = BitPolicy({layer.name: (layer.weight_bits[0], layer.activation_bits[0]) for layer in table.layers})
    plot_bits(table, policy, "unused.png")


def draw_indicators(table: LayerTable) -> None:
    searched = [layer for layer in table.layers if not layer.is_fixed]
    weights = {layer.name: {bits: 0.1 / bits for bits in BITS} for layer in searched}
    plot_indicators(
        IndicatorTable(table, weights, {layer.activation_group: {4: 0.2, 2: 0.3} for layer in searched}), ""
    )


def layer_table(count: int, name: str) -> LayerTable:
    middle = [Layer(name.format(i), 9, 9, f"x{i}", BITS, (4, 2), i % 3 == 1) for i in range(count - 2)]
    return LayerTable((Layer("stem", 9, 9, "input", (8,), (8,)), *middle, Layer("fc", 9, 9, "pool", (8,), (8,))))


def labels_of(axes: Axes) -> list:
    return [label for label in axes.get_xticklabels() if label.get_visible() and label.get_text()]


def room_between(axes: Axes) -> float:
    """
    The least number of pixels between the lines of two neighbouring names, across the direction of writing.

    All names of a panel are turned by the same angle and begin, or end, at one height, so that it is what their ticks'
    distance leaves there beside the height of a line.
    """
    labels = labels_of(axes)
    places = [axes.transData.transform((label.get_position()[0], 0))[0] for label in labels]
    angle = labels[0].get_rotation()
    for label in labels:
        label.set_rotation(0)
    height = max(label.get_window_extent().height for label in labels)
    for label in labels:
        label.set_rotation(angle)
    return min((b - a) * math.sin(math.radians(angle)) - height for a, b in pairwise(places))


@pytest.mark.parametrize("draw", [draw_bits, draw_indicators])
@pytest.mark.parametrize("count", [5, 12, 13, 54, 160])
def test_names_of_layers_and_the_legend_overlap_nothing_and_are_inside_the_picture(
    count: int, draw, drawn: list[Figure]
):
    draw(layer_table(count, "backbone.stages.3.blocks.{}.depthwise.conv"))
    (figure,) = drawn
    figure.draw_without_rendering()
    shown = 0
    boxes = [figure.legends[0].get_window_extent()]
    for axes in figure.axes:
        labels = labels_of(axes)
        if labels:
            assert room_between(axes) > 0
        boxes += [label.get_window_extent() for label in labels]
        shown += len(labels)
    assert shown == (count if draw is draw_bits else count - 2)
    for box in boxes:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert not any(box.overlaps(axes.bbox) for axes in figure.axes)


def swin_names() -> list[str]:
    """The layers of a Swin transformer as the transformers library names them, two blocks in each of four stages."""
    parts = ("attention.self.query", "attention.self.key", "attention.output.dense", "intermediate.dense")
    return [f"swin.encoder.layers.{i}.blocks.{j}.{part}" for i in range(4) for j in range(2) for part in parts]


LONG = {
    "all-begin-alike": swin_names(),
    "one-begins-otherwise": ["swin.embeddings.patch_embeddings.projection", *swin_names(), "classifier"],
    "alike-but-for-a-letter": [f"backbone.{a}.{b}.convolution_of_the_block" for a in ("left", "lower") for b in "xy"],
    "no-modules": [f"{'a' * 12}_{x}_{'b' * 30}" for x in ("one", "other")],
    "one-begins-another": [f"transformer.{x}.projection.of.the.input" for x in ("layer", "layers", "la")],
}


@pytest.mark.parametrize("names", LONG.values(), ids=LONG)
def test_long_names_are_shortened_and_stay_different(names: list[str]):
    shown = short_names(names)
    assert max(map(len, shown)) <= 28
    assert len(set(shown)) == len(names)


def test_what_is_left_of_a_long_name_can_be_recognised():
    assert short_names(swin_names())[9] == "…1.b.0.attention.self.key"
    assert short_names(["backbone.stage3.block11.depthwise.conv", "fc"]) == ["b.s3.block11.depthwise.conv", "fc"]
    assert short_names(["backbone.stage3.block11.depthwise.conv"]) == ["b.s3.block11.depthwise.conv"]
    digits = ".".join(["123"] * 10)
    assert short_names([digits]) == [f"{digits[:13]}…{digits[-14:]}"]


def test_names_of_28_characters_are_left_as_they_are():
    names = ["model.layer1.0.conv1", "model." + "x" * 22]
    assert short_names(names) == names
    assert short_names([]) == []


@pytest.mark.parametrize("count", [5, 54, 160])
def test_bars_are_wide_enough_to_be_read_on_a_landscape_page(count: int, drawn: list[Figure]):
    draw_bits(layer_table(count, "layer{}.conv"))
    (figure,) = drawn
    figure.draw_without_rendering()
    widths = [bar.get_window_extent().width for axes in figure.axes for bar in axes.patches if bar.get_width() < 0.5]
    assert len(widths) == 2 * count
    assert min(widths) / figure.dpi > 0.09  # inches: half of the 0.27 of a layer, less the gap to the next one
    assert figure.get_size_inches()[0] < 13
