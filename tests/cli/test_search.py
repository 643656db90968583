"""``llt-nncf search``, as its users call it."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.cli.main import main

FIXTURES = Path(__file__).parents[1] / "fixtures"
INDICATORS = str(FIXTURES / "limpq_resnet50.json")
PUBLISHED = ["--alpha", "2", "--power", "1", "--bitops-as", "3", "4", "--compression-ratio", "12.2"]


@pytest.fixture
def content():
    """Two searched layers that share a quantizer, behind a fixed one."""
    rows = [("first", "input", [8], [8]), ("a", "relu", [4, 2], [4, 2]), ("b", "relu", [4, 2], [4, 2])]
    keys = ("name", "activation_group", "weight_bits", "activation_bits")
    layers = [{**dict(zip(keys, row, strict=True)), "macs": 1000, "weight_count": 100} for row in rows]
    values = {"4": 0.1, "2": 0.3}
    weights, activations = {"a": values, "b": values}, {"relu": values}
    head = {"schema": "llt_nncf.indicators/1", "source": "a test", "unsearched": {}}
    return copy.deepcopy({**head, "layers": layers, "weights": weights, "activations": activations})


def run(tmp_path, *arguments):
    return main(["search", *map(str, arguments), "-o", str(tmp_path / "policy.json")])


def test_the_published_policy_comes_with_its_proof(tmp_path, capsys):
    assert run(tmp_path, INDICATORS, *PUBLISHED) == 0
    published = BitPolicy.load(FIXTURES / "limpq_resnet50_policy.json")
    assert BitPolicy.load(tmp_path / "policy.json").bits == published.bits
    out = capsys.readouterr().out
    assert "objective 4.617439227, optimal" in out
    assert "weights of layer4.2.conv3" in out


def test_json_is_all_that_is_printed_and_holds_everything(tmp_path, capsys):
    assert run(tmp_path, INDICATORS, *PUBLISHED, "--json", "--k-best", 3, "--explain") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["objective"] == pytest.approx(4.617439227, abs=1e-9)
    assert printed["gap"] < 1e-11
    assert [limit["name"] for limit in printed["limits"]] == ["bitops_as", "compression_ratio"]
    assert len(printed["policies"]) == 3
    assert len(printed["outliers"]) == 2
    layers = {name for row in printed["next_bits"] for name in row["layers"]}
    assert layers == {layer.name for layer in load_scored_layers(INDICATORS).table.layers if not layer.is_fixed}
    saved = json.loads(Path(printed["policy_file"]).read_text())
    assert saved["bits"] == printed["policies"][0]["bits"]


@pytest.mark.parametrize("width", ["80", "160"])
def test_tables_keep_within_the_terminal(width, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    assert run(tmp_path, INDICATORS, *PUBLISHED, "--explain", "--k-best", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= int(width)  # the last one is a path
    assert any(line.startswith("│ layer1.0.downsample.0 ") for line in lines)


@pytest.mark.parametrize(("options", "cost"), [(PUBLISHED, "0.0094*"), (PUBLISHED[4:], "0.00171*")])
def test_costs_of_the_next_bits_have_the_digits_that_tell_them_apart(options, cost, tmp_path, capsys):
    assert run(tmp_path, INDICATORS, *options, "--explain") == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("│ layer1.0.conv2 "))
    assert row.split("│")[3].strip() == cost


def test_an_alpha_that_is_no_number_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, INDICATORS, *PUBLISHED, "--alpha", "twice")
    assert "argument --alpha: 'twice' is neither a number nor auto" in capsys.readouterr().err


def test_budgets_restrictions_and_tables_reach_the_search(content, tmp_path, capsys):
    (tmp_path / "indicators.json").write_text(json.dumps(content))
    pairs = {(w, a): float(w + a) for w in (4, 2) for a in (4, 2)}
    energy = CostTable("energy", "mJ", {"first": {(8, 8): 1.0}, "a": pairs, "b": pairs}, "invented")
    latency = CostTable("latency", "ms", energy.costs, "invented")
    options = ["--table", energy.save(tmp_path / "energy.json"), 13, "--without-fixed", "energy"]
    options += ["--latency-ms", 15, "--latency-table", latency.save(tmp_path / "latency.json")]
    options += ["--average-weight-bits", 6, "--average-activation-bits", 7, "--gbitops", 1, "--weight-mib", 1]
    options += ["--activation-bits", "a=4", "--weight-bits", "b=2,4"]
    options += ["--alpha", "auto", "--power", 2, "--outliers", "error"]
    assert run(tmp_path, tmp_path / "indicators.json", *options, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    used = {limit["name"]: limit["used"] for limit in printed["limits"]}
    # Both inputs have 4 bits, and 13 mJ are not enough for more than 2 + 2 bits of weights: 6 + 6 = 12.
    assert {name: bits["activation_bits"] for name, bits in printed["policies"][0]["bits"].items()} == {
        "first": 8,
        "a": 4,
        "b": 4,
    }
    assert used["energy"] == 12.0
    assert used["latency_ms"] == 13.0
    assert used["average_weight_bits"] == pytest.approx((8 + 2 + 2) / 3)
    assert used["average_activation_bits"] == pytest.approx((8 + 4 + 4) / 3)
    assert printed["policies"][0]["provenance"]["budget"]["without_fixed"] == ["energy"]
    assert printed["policies"][0]["provenance"]["power"] == 2.0
    for switch, expected in (("--tied", {(4, 4), (8, 8)}), ("--weight-only", {(8, 8), (2, 4)})):
        budget = ["--gbitops", "1"] if switch == "--tied" else ["--average-weight-bits", "4"]
        assert run(tmp_path, tmp_path / "indicators.json", *budget, switch) == 0
        assert set(BitPolicy.load(tmp_path / "policy.json").bits.values()) == expected


def test_scores_of_pairs_are_searched_too(content, tmp_path):
    (tmp_path / "indicators.json").write_text(json.dumps(content))
    table = load_scored_layers(tmp_path / "indicators.json").table
    row = {(w, a): -1.0 * (w == 2 and a == 4) for w in (4, 2) for a in (4, 2)}
    scores = PairScoreTable(table, {"a": row, "b": row}).save(tmp_path / "scores.json")
    assert run(tmp_path, scores, "--gbitops", "1") == 0
    assert BitPolicy.load(tmp_path / "policy.json").bits == {"first": (8, 8), "a": (2, 4), "b": (2, 4)}


def without(*path):
    def edit(content):
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return edit


def put(value, *path):
    def edit(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return edit


LAYER = ("layers", 1)
MALFORMED = {
    "no schema": (without("schema"), "ArtifactError"),
    "another schema": (put("llt_nncf.bit_policy/1", "schema"), "ArtifactError"),
    "a later schema": (put("llt_nncf.indicators/2", "schema"), "ArtifactError"),
    "no layers": (without("layers"), "ArtifactError"),
    "an empty list of layers": (put([], "layers"), "ArtifactError"),
    "layers are no list": (put({"a": 1}, "layers"), "ArtifactError"),
    "a layer is no object": (put("a", *LAYER), "ArtifactError"),
    "a layer without a name": (without(*LAYER, "name"), "ArtifactError"),
    "a name that is a number": (put(7, *LAYER, "name"), "ArtifactError"),
    "a name that is given twice": (put("first", *LAYER, "name"), "ArtifactError"),
    "a layer without MACs": (without(*LAYER, "macs"), "ArtifactError"),
    "MACs that are a text": (put("1000", *LAYER, "macs"), "ArtifactError"),
    "MACs that are a fraction": (put(1000.5, *LAYER, "macs"), "ArtifactError"),
    "MACs that are negative": (put(-1, *LAYER, "macs"), "ArtifactError"),
    "no weights at all": (put(0, *LAYER, "weight_count"), "ArtifactError"),
    "a weight count that is true": (put(True, *LAYER, "weight_count"), "ArtifactError"),
    "no group": (without(*LAYER, "activation_group"), "ArtifactError"),
    "no candidates": (put([], *LAYER, "weight_bits"), "ArtifactError"),
    "candidates in ascending order": (put([2, 4], *LAYER, "weight_bits"), "ArtifactError"),
    "a candidate twice": (put([4, 4], *LAYER, "weight_bits"), "ArtifactError"),
    "a candidate of 9 bits": (put([9, 4], *LAYER, "weight_bits"), "ArtifactError"),
    "candidates that are a number": (put(4, *LAYER, "weight_bits"), "ArtifactError"),
    "a group that does not agree": (put([4], *LAYER, "activation_bits"), "ArtifactError"),
    "an unknown key of a layer": (put(1, *LAYER, "colour"), "ArtifactError"),
    "no indicators of weights": (without("weights"), "ArtifactError"),
    "indicators that are a list": (put([0.1], "weights"), "ArtifactError"),
    "a bit-width that is a word": (put({"four": 0.1}, "weights", "a"), "ArtifactError"),
    "an indicator that is a text": (put("0.1", "weights", "a", "4"), "ArtifactError"),
    "an indicator that is null": (put(None, "weights", "a", "4"), "ArtifactError"),
    "an indicator that is NaN": (put(float("nan"), "weights", "a", "4"), "ArtifactError"),
    "an indicator that is infinite": (put(float("inf"), "activations", "relu", "4"), "ArtifactError"),
    "an indicator too large for a float": (put(10**400, "weights", "a", "4"), "ArtifactError"),
    "an indicator that is negative": (put(-0.1, "activations", "relu", "2"), "InvalidIndicatorError"),
    "an indicator that is missing": (without("weights", "b", "2"), "InvalidIndicatorError"),
    "a layer without indicators": (without("weights", "b"), "InvalidIndicatorError"),
    "a group without indicators": (without("activations", "relu"), "InvalidIndicatorError"),
    "no list of what is not searched": (without("unsearched"), "ArtifactError"),
    "what is not searched at 16 bits": (put(16, "unsearched", "add"), "ArtifactError"),
    "no source": (without("source"), "ArtifactError"),
}
NO_FILES = {"empty": b"", "no JSON": b"{", "a list": b"[]", "bytes": b"\xff\xfe\x00", "deep": b"[" * 100_000}


@pytest.mark.parametrize(("edit", "error"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_file_gives_its_named_error_and_status_2(edit, error, content, tmp_path, capsys):
    edit(content)
    (tmp_path / "indicators.json").write_text(json.dumps(content))
    assert run(tmp_path, tmp_path / "indicators.json", "--gbitops", "1") == 2
    caught = capsys.readouterr()
    assert caught.err.startswith(f"llt-nncf search: {error}: ")
    assert caught.err.count("\n") == 1
    assert (caught.out, (tmp_path / "policy.json").exists()) == ("", False)


@pytest.mark.parametrize("data", NO_FILES.values(), ids=NO_FILES.keys())
def test_what_is_no_json_object_gives_status_2(data, tmp_path, capsys):
    (tmp_path / "indicators.json").write_bytes(data)
    assert run(tmp_path, tmp_path / "indicators.json", "--gbitops", "1") == 2
    assert capsys.readouterr().err.startswith("llt-nncf search: ArtifactError: ")


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [
        ([], 2, "BudgetError"),
        (["--gbitops", "-1"], 2, "BudgetError"),
        (["--latency-ms", "1"], 2, "BudgetError"),
        (["--gbitops", "1", "--without-fixed", "size"], 2, "BudgetError"),
        (["--gbitops", "1", "--alpha", "-1"], 2, "InvalidIndicatorError"),
        (["--gbitops", "1", "--k-best", "0"], 2, "SearchOptionError"),
        (["--gbitops", "1", "--weight-bits", "4"], 2, "SearchOptionError"),
        (["--gbitops", "1", "--weight-bits", "conv=four"], 2, "SearchOptionError"),
        (["--gbitops", "1", "--weight-bits", "nosuch=4"], 2, "SearchOptionError"),
        (["--table", "nosuch.json", "1"], 2, "ArtifactError"),
        (["--gbitops", "1", "--outliers", "error"], 2, "InvalidIndicatorError"),
        (["--compression-ratio", "30"], 3, "InfeasibleBudgetError"),
        ([*PUBLISHED, "--time-limit-s", "1e-6"], 1, "SearchNotProvenError"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options_that_cannot_be_met_end_with_their_status_and_one_line(options, status, error, tmp_path, capsys):
    assert run(tmp_path, INDICATORS, *options) == status
    assert capsys.readouterr().err.startswith(f"llt-nncf search: {error}: ")


def test_a_missing_file_and_an_unwritable_one_give_status_2(tmp_path, capsys):
    assert run(tmp_path, tmp_path / "none.json", "--gbitops", "1") == 2
    (tmp_path / "file").write_text("")
    assert main(["search", INDICATORS, "--gbitops", "100", "-o", str(tmp_path / "file" / "policy.json")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_neither_torch_nor_nncf_nor_an_engine_is_imported(tmp_path):
    heavy = "{'torch', 'torchvision', 'nncf', 'onnx', 'openvino', 'onnxruntime', 'matplotlib'}"
    arguments = ["search", INDICATORS, *PUBLISHED, "-o", str(tmp_path / "policy.json")]
    code = (
        f"import sys; from llt_nncf.cli.main import main; status = main({arguments}); "
        f"print(status, sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_a_pattern_given_twice_is_refused(capsys):
    options = ["--bitops-as", "4", "4", "--weight-bits", "layer1.*=2", "--weight-bits", "layer1.*=6,5"]
    assert main(["search", INDICATORS, *options]) == 2
    assert "--weight-bits: the pattern 'layer1.*' is given twice" in capsys.readouterr().err
