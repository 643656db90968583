"""``llt-nncf frontier``, as its users call it."""

import csv
import json
from pathlib import Path

import pytest

from llt_nncf.allocation import allocate_bits
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.cli.main import main
from llt_nncf.cost import Budget

FIXTURES = Path(__file__).parents[1] / "fixtures"
INDICATORS = str(FIXTURES / "limpq_resnet50.json")
POLICY = str(FIXTURES / "limpq_resnet50_policy.json")


def run(folder, *arguments):
    options = ["--alpha", "2", "--power", "1", "-o", str(folder / "frontier.json")]
    return main(["frontier", INDICATORS, *map(str, arguments), *options])


def test_points_files_and_picture_agree(tmp_path, capsys):
    options = ["--csv", tmp_path / "frontier.csv", "--picture", tmp_path / "frontier.png", "--mark", POLICY]
    assert run(tmp_path, "--over", "gbitops", 30, 90, "--points", 4, *options) == 0
    printed = capsys.readouterr().out
    points = json.loads((tmp_path / "frontier.json").read_text())["points"]
    rows = list(csv.DictReader((tmp_path / "frontier.csv").read_text().splitlines()))
    assert [point["at"]["gbitops"] for point in points] == [30, 50, 70, 90]
    indicators = IndicatorTable.load(INDICATORS)
    for point, row in zip(points, rows, strict=True):
        found = allocate_bits(indicators, Budget(gbitops=point["at"]["gbitops"]), alpha=2.0)
        assert point["objective"] == pytest.approx(found.objective, abs=1e-11)
        assert (float(row["at_gbitops"]), float(row["objective"])) == (point["at"]["gbitops"], point["objective"])
        assert f"{point['objective']:.8g}" in printed
        assert len(point["bits"]) == 54
    assert "limpq_resnet50_policy: gbitops 56.0346, objective 4.6174392" in printed
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_a_grid_says_where_nothing_fits(tmp_path, capsys):
    grid = ["--over", "gbitops", 40, 60, "--over", "compression_ratio", 10, 20, "--points", 2, 2]
    assert run(tmp_path, *grid, "--json", "--csv", tmp_path / "grid.csv", "--picture", tmp_path / "grid.png") == 0
    points = json.loads(capsys.readouterr().out)
    assert [(point["at"]["compression_ratio"], point["objective"] is None) for point in points] == [
        (10, False),
        (20, True),
        (10, False),
        (20, True),
    ]
    rows = list(csv.DictReader((tmp_path / "grid.csv").read_text().splitlines()))
    assert [row["objective"] == "" for row in rows] == [False, True, False, True]


def test_by_default_the_points_span_what_can_be_met_and_used(tmp_path, capsys):
    assert run(tmp_path, "--over", "weight_mib", "--gbitops", 60, "--without-fixed", "gbitops") == 0
    points = json.loads((tmp_path / "frontier.json").read_text())["points"]
    assert len(points) == 20
    objectives = [point["objective"] for point in points if point["objective"] is not None]
    assert objectives == sorted(objectives, reverse=True)


@pytest.mark.parametrize(
    "options",
    [
        ["--over", "bitops_as"],
        ["--over", "gbitops", "30"],
        ["--over", "gbitops", "low", "high"],
        ["--over", "gbitops", "-1", "1"],
        ["--over", "gbitops", "--over", "gbitops"],
        ["--over", "gbitops", "--points", "2", "2"],
        ["--over", "gbitops", "--points", "0"],
        ["--over", "gbitops", "--over", "weight_mib", "--all"],
        ["--over", "latency_ms"],
        ["--over", "gbitops", "--mark", INDICATORS],
    ],
    ids=" ".join,
)
def test_bad_input_gives_status_2_and_no_file(options, tmp_path, capsys):
    assert run(tmp_path, *options) == 2
    assert capsys.readouterr().err.startswith("llt-nncf frontier: ")
    assert not (tmp_path / "frontier.json").exists()


def test_status_3_if_nothing_fits_anywhere(tmp_path):
    options = ["--over", "weight_mib", "0.01", "0.02", "--points", "2", "-o", str(tmp_path / "f.json")]
    assert main(["frontier", str(INDICATORS), *options]) == 3


def test_all_points_of_a_range(tmp_path):
    assert run(tmp_path, "--over", "gbitops", 56, 56.1, "--all") == 0
    points = json.loads((tmp_path / "frontier.json").read_text())["points"]
    assert points
    assert all(56 <= point["at"]["gbitops"] <= 56.1 for point in points)
    assert run(tmp_path, "--over", "gbitops", "--all", "--points", 3) == 2


def test_marks_of_one_name_are_told_apart_and_need_not_be_allowed(tmp_path, capsys):
    paths = [tmp_path / name / "policy.json" for name in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(Path(POLICY).read_bytes())
    marks = [argument for path in paths for argument in ("--mark", path)]
    assert run(tmp_path, "--over", "gbitops", "--points", 2, *marks, "--weight-bits", "layer1.*=2") == 0
    printed = capsys.readouterr().out
    for path in paths:
        assert f"{path}: gbitops 56.0346, objective 4.6174392" in printed
