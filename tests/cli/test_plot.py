"""``llt-nncf plot``, as its users call it."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from statistics import stdev

import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import StepRecord
from llt_nncf.artifacts import TrainingLog
from llt_nncf.cli.comparison_results import load_accuracy_points
from llt_nncf.cli.main import main

TABLE = LayerTable((Layer("stem", 9, 9, "input", (8,), (8,)), Layer("deep", 9, 9, "x", (4, 2), (4, 2), depthwise=True)))
POLICY = BitPolicy({"stem": (8, 8), "deep": (4, 2)})
INDICATORS = IndicatorTable(TABLE, {"deep": {4: 0.1, 2: 0.2}}, {"x": {4: 0.3, 2: 0.4}})
ROW = {"method": "ours", "budget": "W3A3", "seed": 0, "status": "done", "top1": 90.0, "float_top1": 92.0}
ROW |= {"gbitops": 0.4, "weight_mib": 0.1}


def write_results(path: Path, *changes: dict) -> Path:
    """A table with a row for each of the changes to ``ROW``."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*ROW, "reason"])
        writer.writeheader()
        writer.writerows({**ROW, "reason": "a, b", **change} for change in changes)
    return path


def write_all(folder: Path) -> dict[str, Path]:
    """A file of every kind, and a text that its picture has."""
    TABLE.save(folder / "layers.json")
    log = TrainingLog(folder / "importance.jsonl")
    for step in (1, 2):
        log(StepRecord(step, 2, 0, 0.1, {"uniform-4": 1.0 / step}, INDICATORS, 1.0, 1.0))
    points = [{"at": {"weight_mib": x}, "objective": None if x == 1 else 1 / x, "bits": None} for x in (1, 2, 3)]
    frontier = {"schema": "llt_nncf.frontier/1", "axes": ["weight_mib"], "points": points}
    (folder / "frontier.json").write_text(json.dumps(frontier))
    return {
        "weights (6.00 bits per weight)": POLICY.save(folder / "policy.json"),
        "weight indicator": INDICATORS.save(folder / "indicators.json"),
        "optimizer step": folder / "importance.jsonl",
        "weights, MiB": folder / "frontier.json",
        "BitOPs, 1e9": write_results(folder / "results.csv", {}),
    }


def plot(file: Path, *options: object) -> int:
    return main(["plot", str(file), *map(str, options)])


@pytest.fixture
def error(capsys):
    """Calls the command with bad input and returns what it says."""

    def call(file: Path, *options: object) -> str:
        assert plot(file, *options) == 2
        return capsys.readouterr().err

    return call


def test_every_kind_of_file_is_known_by_its_content_and_drawn(tmp_path, capsys):
    for text, path in write_all(tmp_path).items():
        for name in ("a.svg", "a.png"):
            assert plot(path, "--out", tmp_path / "new" / name) == 0
            assert capsys.readouterr().out == f"Picture: {tmp_path / 'new' / name}\n"
        assert f">{text}</text>" in (tmp_path / "new" / "a.svg").read_text()
        assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_frontier_that_the_frontier_command_writes_is_drawn(tmp_path, capsys):
    indicators = INDICATORS.save(tmp_path / "indicators.json")
    grid = ["--over", "average_weight_bits", "5", "6", "--over", "gbitops", "--points", "2", "2"]
    assert main(["frontier", str(indicators), *grid, "-o", str(tmp_path / "frontier.json")]) == 0
    assert plot(tmp_path / "frontier.json", "--out", tmp_path / "frontier.svg") == 0
    text = (tmp_path / "frontier.svg").read_text()
    assert ">bits per weight</text>" in text
    assert ">GBitOPs</text>" in text


def test_a_policy_takes_its_layers_from_beside_it_or_from_where_it_is_told(tmp_path, error):
    policy = POLICY.save(tmp_path / "policy.json")
    assert "--layers FILE" in error(policy, "--out", tmp_path / "a.svg")
    INDICATORS.save(tmp_path / "indicators.json")
    assert plot(policy, "--out", tmp_path / "a.svg") == 0
    LayerTable((Layer("other", 9, 9, "input", (8,), (8,)),)).save(tmp_path / "layers.json")
    said = error(policy, "--out", tmp_path / "b.svg")
    assert f"{policy}, with the layers of {tmp_path / 'layers.json'}: Policy does not fit the layers" in said
    assert plot(policy, "--layers", tmp_path / "indicators.json", "--out", tmp_path / "b.svg") == 0
    assert ">depthwise</text>" in (tmp_path / "b.svg").read_text()


def test_results_are_means_and_spreads_over_the_seeds_that_are_done(tmp_path):
    top1 = (90.0, 90.6, 91.5)
    rows = [{"seed": seed, "top1": value, "gbitops": 0.4 + seed / 100} for seed, value in enumerate(top1)]
    other = [
        {"method": "rival", "status": "infeasible", "top1": "", "gbitops": "", "weight_mib": ""},
        {"method": "rival", "seed": 1, "top1": 88.0},
    ]
    points, float_top1 = load_accuracy_points(write_results(tmp_path / "r.csv", *rows, *other), cost="gbitops")
    assert float_top1 == 92.0
    ours, rival = points
    assert (ours.method, ours.label, ours.cost) == ("ours", "W3A3", pytest.approx(0.41))
    assert (ours.top1_mean, ours.top1_spread) == (pytest.approx(fmean(top1)), pytest.approx(stdev(top1)))
    assert (rival.method, rival.top1_mean, rival.top1_spread) == ("rival", 88.0, 0.0)


def test_results_are_drawn_over_either_cost(tmp_path):
    results = write_results(tmp_path / "results.csv", {}, {"method": "rival"})
    assert plot(results, "--x", "weight_mib", "--out", tmp_path / "size.svg") == 0
    assert ">weights, MiB</text>" in (tmp_path / "size.svg").read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{"status": "missing"}], "none of its 1 rows has the status 'done'"),
        ([{}, {}], "method 'ours', budget 'W3A3', seed 0 is there twice"),
        ([{"top1": "high"}], "its top1 must be a number, and not 'high'"),
        ([{"gbitops": "nan"}], "its gbitops must be a number, and not 'nan'"),
        ([{"gbitops": 0}], "gbitops=0, which must be positive"),
    ],
    ids=["nothing-done", "twice", "no-number", "nan", "zero"],
)
def test_results_that_make_no_sense_are_refused_with_the_cell(changes, words, tmp_path, error):
    said = error(write_results(tmp_path / "results.csv", *changes), "--out", tmp_path / "a.png")
    assert words in said
    assert "results.csv" in said
    assert not (tmp_path / "a.png").exists()


FOREIGN = {
    "columns": (b"method,seed\nours,0\n", "lacks the columns budget, status, top1, float_top1, gbitops"),
    "short-row": (",".join(ROW).encode() + b"\nours,W3A3,0,done,90\n", "its float_top1 must be a number, and not ''"),
    "binary": (b"\x89PNG\r\n\x1a\n\xff", "not one of indicators.json, policy.json"),
    "empty": (b"", "it is empty. Name one of indicators.json, policy.json"),
    "blank": (b" \n\n", "it is empty. Name one of"),
    "other-kind": (
        b'{\n "schema": "llt_nncf.cost_table/1"\n}',
        "llt_nncf.cost_table/1, which has no picture. Name one",
    ),
    "no-text": (b'{"schema": [1]}', "its schema is [1], which has no picture"),
    "cut-off": (b'{"schema"', "cannot be read as JSON"),
    "axes": (b'{"schema": "llt_nncf.frontier/1", "axes": ["joy"], "points": []}', "must be one or two of gbitops"),
    "points": (b'{"schema": "llt_nncf.frontier/1", "axes": ["gbitops"], "points": [{}]}', "not a frontier: KeyError"),
    "policy": (b'{"schema": "llt_nncf.bit_policy/1", "bits": 3}', "not a bit policy"),
    "log": (b'{"schema": "llt_nncf.training_log/1"}\n{}\n', "line 2 is no step of a training log: KeyError('step')"),
    "log-without-a-step": (b'{"schema": "llt_nncf.training_log/1"}\n', "there is nothing to draw yet"),
}


@pytest.mark.parametrize(("content", "words"), FOREIGN.values(), ids=FOREIGN)
def test_files_of_no_such_kind_are_refused_by_name(content, words, tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(content)
    said = error(path, "--out", tmp_path / "a.png")
    assert words in said
    assert str(path) in said
    assert not (tmp_path / "a.png").exists()


def test_indicators_of_which_none_was_searched_are_refused_by_name(tmp_path, error):
    fixed = IndicatorTable(LayerTable(TABLE.layers[:1]), {}, {}).save(tmp_path / "indicators.json")
    assert f"{fixed}: Every layer of the indicators has one bit-width" in error(fixed, "--out", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_lines_that_are_blank_before_the_content_do_not_hide_the_kind(tmp_path):
    path = INDICATORS.save(tmp_path / "indicators.json")
    path.write_text("\n \n" + path.read_text())
    assert plot(path, "--out", tmp_path / "a.png") == 0


def test_missing_files_and_other_endings_are_refused(tmp_path, error):
    assert "none.json: no such file" in error(tmp_path / "none.json", "--out", tmp_path / "a.png")
    said = error(INDICATORS.save(tmp_path / "indicators.json"), "--out", tmp_path / "a.pdf")
    assert "ends in .png or .svg" in said
    assert "a.png" in said


def test_drawing_imports_neither_torch_nor_nncf_nor_a_solver(tmp_path):
    heavy = "{'torch', 'nncf', 'onnx', 'openvino', 'ortools', 'matplotlib.pyplot'}"
    arguments = ["plot", str(INDICATORS.save(tmp_path / "indicators.json")), "--out", str(tmp_path / "a.svg")]
    code = (
        f"import sys; from llt_nncf.cli.main import main; status = main({arguments}); "
        f"print(status, sorted({heavy} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
