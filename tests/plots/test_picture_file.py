"""PNG and SVG, by the name's ending."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ArtifactError
from llt_nncf.plots import AccuracyPoint
from llt_nncf.plots import picture_format
from llt_nncf.plots import plot_accuracy
from llt_nncf.plots import plot_bits
from llt_nncf.plots import plot_losses

SVG = "{http://www.w3.org/2000/svg}"
TABLE = LayerTable((Layer("stem & <head>", 9, 9, "input", (8,), (8,)), Layer("deep", 9, 9, "x", (4, 2), (4, 2), True)))


def draw_bits(path: Path) -> Path:
    return plot_bits(TABLE, BitPolicy({"stem & <head>": (8, 8), "deep": (4, 2)}), path)


def draw_accuracy(path: Path) -> Path:
    return plot_accuracy([AccuracyPoint("ours", "W3A3", 1.0, 90.0, 0.1)], path, x_label="cost", float_top1=92.0)


def draw_losses(path: Path) -> Path:
    return plot_losses({"ours": {1: 2.0, 2: 1.0}}, path)


@pytest.mark.parametrize("draw", [draw_bits, draw_accuracy, draw_losses])
def test_the_same_figure_gives_the_same_svg_file_which_names_no_other_file(draw, tmp_path: Path):
    text = draw(tmp_path / "a.svg").read_text(encoding="utf-8")
    assert draw(tmp_path / "b.SVG").read_text(encoding="utf-8") == text
    assert "<!DOCTYPE" not in text
    assert "<metadata" not in text
    # Of what begins with http only the names of XML's vocabularies are left, and references stay inside the file.
    assert set(re.findall(r'(\S+)="https?:', text)) <= {"xmlns", "xmlns:xlink"}
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', text))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_text_in_svg_is_text(tmp_path: Path):
    root = ElementTree.parse(draw_bits(tmp_path / "bits.svg")).getroot()
    assert root.tag == f"{SVG}svg"
    assert {"stem & <head>", "deep", "bits", "fixed", "depthwise"} <= {node.text for node in root.iter(f"{SVG}text")}


def test_hatches_in_svg_are_as_strong_as_what_is_around_them(tmp_path: Path):
    # matplotlib gives a hatched bar the opacity of its face, hatch and all.
    assert "fill-opacity" not in draw_bits(tmp_path / "bits.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "kind"), [("a.png", "png"), ("a.SVG", "svg"), ("a.b.svg", "svg")])
def test_the_ending_of_the_name_decides(name: str, kind: str):
    assert picture_format(name) == kind


@pytest.mark.parametrize("name", ["bits.jpg", "bits.pdf", "bits", "svg"])
def test_other_endings_are_refused_and_leave_nothing(name: str, tmp_path: Path):
    with pytest.raises(ArtifactError, match=rf"{name}: a picture's name ends in .png or .svg.* Name it \w+\.png"):
        draw_bits(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
