import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import TrainingCurves
from llt_nncf.errors import ArtifactError
from llt_nncf.plots import plot_bits
from llt_nncf.plots import plot_frontier
from llt_nncf.plots import plot_indicators
from llt_nncf.plots import plot_training

BITS = (6, 4, 2)


def layer_table(searched: int) -> LayerTable:
    """``searched`` free layers between two fixed ones."""
    free = [Layer(f"layer{i}.conv", 100, 10, f"relu{i}", BITS, BITS) for i in range(searched)]
    return LayerTable((Layer("first", 100, 10, "input", (8,), (8,)), *free, Layer("fc", 100, 10, "pool", (8,), (8,))))


def indicator_table(searched: int) -> IndicatorTable:
    weights = {f"layer{i}.conv": {bits: 0.1 * (i + 1) / bits for bits in BITS} for i in range(searched)}
    activations = {f"relu{i}": {bits: 0.2 * (i + 1) / bits for bits in BITS} for i in range(searched)}
    return IndicatorTable(layer_table(searched), weights, activations)


def png_size(path: Path) -> tuple[int, int]:
    """Width and height from the header."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.mark.parametrize("searched", [1, 18, 42])
def test_pictures_are_png_files_and_nothing_else_is_left(searched: int, tmp_path: Path):
    table = layer_table(searched)
    bits = plot_bits(table, BitPolicy.uniform(table, weight_bits=4, activation_bits=2), tmp_path / "new" / "bits.png")
    indicators = plot_indicators(indicator_table(searched), str(tmp_path / "new" / "indicators.png"))
    assert sorted(path.name for path in bits.parent.iterdir()) == ["bits.png", "indicators.png"]
    # Inches at 150 dots: 44 layers stand in two rows of 22.
    in_a_row = {1: 3, 18: 20, 42: 22}[searched]
    assert png_size(bits)[0] == pytest.approx(max(6.8, 1.6 + 0.27 * in_a_row) * 150, abs=2)
    assert png_size(indicators)[1] > png_size(bits)[1]


def test_bars_show_the_bits_and_fixed_ones_are_hatched(drawn: list[Figure]):
    table = layer_table(2)
    policy = BitPolicy({"first": (8, 8), "layer0.conv": (4, 6), "layer1.conv": (2, 4), "fc": (8, 8)})
    plot_bits(table, policy, "unused.png")
    (axes,) = drawn[0].axes
    bars = sorted(axes.patches, key=lambda bar: bar.get_x())
    assert [bar.get_height() for bar in bars] == [8, 8, 4, 6, 2, 4, 8, 8]
    assert [bool(bar.get_hatch()) for bar in bars] == [True, True, False, False, False, False, True, True]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["first", "layer0.conv", "layer1.conv", "fc"]
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    # Equal weights and MACs everywhere: (8+4+2+8)/4 and (8+6+4+8)/4.
    assert legend == ["weights (5.50 bits per weight)", "activations (6.50 bits per MAC)", "fixed"]


def test_depthwise_layers_stand_on_grey_and_the_legend_says_so(drawn: list[Figure]):
    layers = [Layer(name, 100, 10, name, BITS, BITS, depthwise=name == "deep") for name in ("point", "deep", "last")]
    table = LayerTable(tuple(layers))
    plot_bits(table, BitPolicy.uniform(table, weight_bits=4, activation_bits=2), "unused.png")
    (axes,) = drawn[0].axes
    (band,) = [patch for patch in axes.patches if patch.get_height() not in (2, 4)]
    assert (band.get_x(), band.get_width()) == (0.5, 1.0)
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()][2:] == ["depthwise"]


def test_many_layers_are_drawn_in_rows_with_one_scale_and_none_is_lost(drawn: list[Figure]):
    table = layer_table(88)
    plot_bits(table, BitPolicy.uniform(table, weight_bits=4, activation_bits=2), "unused.png")
    plot_indicators(indicator_table(88), "unused.png")
    bits, indicators = drawn
    labels = [[label.get_text() for label in axes.get_xticklabels()] for axes in bits.axes]
    assert [len(row) for row in labels] == [30, 30, 30]
    assert sum(labels, []) == [layer.name for layer in table.layers]
    assert sum(len(axes.patches) for axes in bits.axes) == 2 * 90
    assert len({axes.get_ylim() for axes in bits.axes}) == 1
    # Two panels a row: the weights' and the inputs'.
    for kind, base in enumerate((0.1, 0.2)):
        panels = indicators.axes[kind::2]
        (ylim,) = {axes.get_ylim() for axes in panels}
        values = np.concatenate([axes.lines[0].get_ydata() for axes in panels])
        np.testing.assert_allclose(values, base * np.arange(1, 89) / 6)
        places = np.concatenate([axes.lines[0].get_xdata() for axes in panels])
        assert places.tolist() == list(range(88))
        assert ylim[0] < values.min()


def test_lines_show_the_indicators_of_searched_layers(drawn: list[Figure]):
    plot_indicators(indicator_table(3), "unused.png")
    for axes, base in zip(drawn[0].axes, (0.1, 0.2), strict=True):
        assert axes.get_yscale() == "log"
        assert [line.get_label() for line in axes.lines] == ["6 bits", "4 bits", "2 bits"]
        for line, num_bits in zip(axes.lines, BITS, strict=True):
            np.testing.assert_allclose(line.get_ydata(), base * np.array([1, 2, 3]) / num_bits)
    labels = [label.get_text() for label in drawn[0].axes[1].get_xticklabels()]
    assert labels == ["layer0.conv", "layer1.conv", "layer2.conv"]


def test_layers_that_lack_a_candidate_leave_a_gap(drawn: list[Figure]):
    table = LayerTable((Layer("a", 1, 1, "x", (4, 2), (8,)), Layer("b", 1, 1, "y", (2,), (4, 2))))
    plot_indicators(IndicatorTable(table, {"a": {4: 0.1, 2: 0.0}}, {"y": {4: 0.2, 2: 0.4}}), "unused.png")
    weights, activations = (
        {line.get_label(): line.get_ydata().tolist() for line in axes.lines} for axes in drawn[0].axes
    )
    assert weights["4 bits"] == pytest.approx([0.1, np.nan], nan_ok=True)
    assert weights["2 bits"] == pytest.approx([np.nan, np.nan], nan_ok=True)
    assert activations["2 bits"] == pytest.approx([np.nan, 0.4], nan_ok=True)


def test_the_frontier_has_a_line_for_each_value_of_the_second_budget_and_a_star_for_each_policy(drawn: list[Figure]):
    points = [(1.0, 8.0, 5.0), (1.0, 9.0, 6.0), (2.0, 8.0, 3.0), (2.0, 9.0, 4.0), (3.0, 8.0, 2.0)]
    plot_frontier(["gbitops", "compression_ratio"], points, "unused.png", marks={"chosen": (2.0, 3.5)})
    (axes,) = drawn[0].axes
    lines = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines[:2]}
    assert lines == {"8": [(1, 5), (2, 3), (3, 2)], "9": [(1, 6), (2, 4)]}
    assert axes.lines[2].get_xydata().tolist() == [[2.0, 3.5]]
    assert [text.get_text() for text in axes.texts] == ["chosen"]
    assert axes.get_xlabel() == "GBitOPs"
    (legend,) = drawn[0].legends
    assert legend.get_title().get_text() == "compression ratio"
    drawn[0].draw_without_rendering()
    assert legend.get_window_extent().x0 >= axes.bbox.x1


@pytest.mark.parametrize("levels", [30, 100])
def test_all_levels_of_a_frontier_stand_in_a_legend_inside_the_picture(levels: int, drawn: list[Figure]):
    points = [(x, 8 + level / 10, 1 / x) for x in (1.0, 2.0) for level in range(levels)]
    plot_frontier(["gbitops", "compression_ratio"], points, "unused.png")
    (figure,) = drawn
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == levels
    assert figure.axes[0].bbox.x1 <= box.x0 < box.x1 <= figure.bbox.x1
    assert box.y0 >= 0


def test_names_of_policies_stand_beside_their_stars(drawn: list[Figure]):
    places = {f"policy{i}": (1 + 0.6 * i, 12 / (1 + 0.6 * i)) for i in range(7)}
    plot_frontier(["gbitops"], [(x, 10 / x) for x in (1.0, 2.0, 5.0)], "unused.png", marks=places)
    figure = drawn[0]
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert {text.get_text(): text.xy for text in axes.texts} == places
    for text in axes.texts:
        box, (x, y) = text.get_window_extent(), axes.transData.transform(text.xy)
        distance = max(box.x0 - x, x - box.x1, box.y0 - y, y - box.y1, 0)
        assert distance * 72 / figure.dpi < 13  # points; the width of a star


def test_stars_that_cover_each_other_have_one_label_and_no_name_is_lost(drawn: list[Figure]):
    marks = {"a": (2.0, 5.0), "b": (2.01, 5.01), "c": (4.0, 2.5), "d": (2.0, 5.0), "long" * 40: (3.0, 4.0)}
    plot_frontier(["gbitops"], [(x, 10 / x) for x in (1.0, 2.0, 5.0)], "unused.png", marks=marks)
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["a\nb\nd", "c", "long" * 40]


def test_a_frontier_over_one_budget_is_one_line_without_a_legend(drawn: list[Figure], tmp_path: Path):
    plot_frontier(["weight_mib"], [(float(x), 1 / x) for x in range(1, 9)], tmp_path / "frontier.png")
    (axes,) = drawn[0].axes
    assert len(axes.lines) == 1
    assert drawn[0].legends == []


def test_a_frontier_of_which_nothing_fits_is_an_empty_picture(tmp_path: Path):
    assert plot_frontier(["gbitops", "weight_mib"], [], tmp_path / "frontier.png").is_file()


def test_a_table_in_which_every_layer_is_fixed_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match="Every layer of the indicators has one bit-width"):
        plot_indicators(indicator_table(0), tmp_path / "indicators.png")
    assert list(tmp_path.iterdir()) == []


def test_dollars_in_names_are_no_formulas(drawn: list[Figure]):
    table = LayerTable(tuple(Layer(name, 1, 1, name, BITS, BITS) for name in ("conv", "a$b$c")))
    plot_bits(table, BitPolicy.uniform(table, weight_bits=4, activation_bits=4), "unused.png")
    assert not drawn[0].axes[0].get_xticklabels()[1].get_parse_math()


def test_policy_of_another_model_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match="fc"):
        plot_bits(layer_table(1), BitPolicy({"first": (8, 8)}), tmp_path / "bits.png")
    assert list(tmp_path.iterdir()) == []


def test_pyplot_and_its_global_state_are_not_imported():
    code = "import sys, llt_nncf.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=120).returncode == 0


CURVES = TrainingCurves(
    losses={"uniform-4": {1: 2.0, 2: 1.0}, "uniform-2": {1: 3.0, 2: 2.5}, "sampled-0": {1: 2.6, 2: 1.7}},
    tau={2: 0.9},
    tau_from_start={1: 1.0, 2: 0.8},
    weights={("conv", 4): {1: 0.1, 2: 0.2}, ("conv", 2): {1: 0.0, 2: 0.1}, ("fixed", 8): {1: 0.1, 2: 1.4}},
    activations={("input", 4): {1: 0.5, 2: 0.25}, ("input", 2): {1: 0.5, 2: 1.0}},
)


def test_a_training_is_drawn_as_losses_taus_and_multiples_of_the_first_indicators(drawn: list[Figure]):
    plot_training(CURVES, "unused.png")
    losses, taus, weights, activations = drawn[0].axes
    assert [list(line.get_ydata()) for line in losses.lines if len(line.get_ydata())] == [[2, 1], [3, 2.5], [2.6, 1.7]]
    assert [list(line.get_ydata()) for line in taus.lines] == [[0.9], [1.0, 0.8]]
    # What began at zero has no multiple, and a fixed layer no indicator.
    assert [list(line.get_ydata()) for line in weights.lines] == [[1, 2]]
    assert [list(line.get_ydata()) for line in activations.lines] == [[1, 0.5], [1, 2]]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["4 bits", "2 bits", "sampled policy"]


@pytest.mark.parametrize("curves", [CURVES, TrainingCurves(losses={"uniform-4": {1: 2.0}})])
def test_a_training_of_any_length_gives_a_picture(curves: TrainingCurves, tmp_path: Path):
    assert png_size(plot_training(curves, tmp_path / "training.png"))[0] == 1575


def texts_of(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_before_there_are_indicators_losses_have_their_colours_and_the_other_panels_say_why_they_are_blank(
    drawn: list[Figure],
):
    plot_training(TrainingCurves(losses=CURVES.losses), "unused.png")
    plot_training(CURVES, "unused.png")
    colors, with_indicators = ([line.get_color() for line in figure.axes[0].lines] for figure in drawn)
    assert colors == with_indicators
    assert len(set(colors[:3])) == 3
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["4 bits", "2 bits", "sampled policy"]
    assert [texts_of(axes) for axes in drawn[0].axes] == [[], *[["no indicators in the log yet"]] * 3]
    assert [texts_of(axes) for axes in drawn[1].axes] == [[]] * 4


def test_a_panel_in_which_nothing_is_chosen_says_so(drawn: list[Figure]):
    fixed = {("input", 8): {1: 0.5, 2: 0.25}}
    plot_training(TrainingCurves(CURVES.losses, CURVES.tau, CURVES.tau_from_start, CURVES.weights, fixed), "unused.png")
    assert [texts_of(axes) for axes in drawn[0].axes] == [[], [], [], ["every layer has one bit-width here"]]


def test_what_was_logged_once_is_drawn_as_markers(drawn: list[Figure]):
    one = {("conv", 4): {1: 0.1}, ("conv", 2): {1: 0.2}}
    plot_training(TrainingCurves({"uniform-4": {1: 2.0}}, {}, {1: 1.0}, one, one), "unused.png")
    for axes in drawn[0].axes:
        lines = [line for line in axes.lines if len(line.get_xdata())]
        assert lines
        assert {line.get_marker() for line in lines} == {"o"}


def test_a_training_without_a_step_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match="there is nothing to draw yet"):
        plot_training(TrainingCurves(), tmp_path / "training.png")
    assert list(tmp_path.iterdir()) == []
