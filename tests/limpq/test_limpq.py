"""The authors' pickle: converted exactly, and never run."""

import pickle
from pathlib import Path

import pytest

from llt_nncf.artifacts import IndicatorTable
from llt_nncf.cli.main import main
from llt_nncf.errors import ArtifactError
from llt_nncf.limpq import ModelLayer
from llt_nncf.limpq import convert_indicators
from llt_nncf.limpq import load_plain_pickle
from llt_nncf.limpq import survey_torchvision

FIXTURE = Path(__file__).parents[1] / "fixtures" / "limpq_resnet50.json"


class Global:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self._call = (function, arguments)

    def __reduce__(self):
        return self._call


@pytest.fixture
def published():
    """What the authors' file holds, made of the fixture, which holds their values."""
    indicators = IndicatorTable.load(FIXTURE)
    kinds = {"weight": indicators.weights, "act": indicators.activations}
    rows = {
        kind: {f"module.{name}": {str(bits): value for bits, value in values.items()} for name, values in of.items()}
        for kind, of in kinds.items()
    }
    return {**rows, "layer_name": list(rows["weight"])}


def test_the_authors_file_becomes_the_fixture_with_their_macs(published, tmp_path, capsys):
    (tmp_path / "resnet50.pkl").write_bytes(pickle.dumps(published))
    out = tmp_path / "indicators.json"
    assert main(["import-limpq", str(tmp_path / "resnet50.pkl"), "--macs", "authors", "-o", str(out)]) == 0
    converted, expected = IndicatorTable.load(out), IndicatorTable.load(FIXTURE)
    assert converted.table == expected.table
    assert (converted.weights, converted.activations) == (expected.weights, expected.activations)
    printed = capsys.readouterr().out
    # METHOD.md: +3.6 % where 56 become 28, +14.3 % where 14 become 7.
    assert "+3.6%" in printed
    assert "+14.3%" in printed
    assert "54 layers, 52 of them searched" in printed


def test_macs_are_floored_side_by_side_by_default():
    layers = {layer.name: layer for layer in survey_torchvision("resnet50")}
    # 224 -> 112, 7 x 7 x 3 x 64 weights; 14 -> 7, 3 x 3 x 512 x 512; the classifier.
    assert layers["conv1"].macs == 112**2 * 7 * 7 * 3 * 64
    assert layers["layer4.0.conv2"].macs == 7**2 * 3 * 3 * 512 * 512
    assert layers["fc"].macs == 2048 * 1000
    # int(7.5 * 7.5) in place of 7 * 7
    assert layers["layer4.0.conv2"].macs_authors == 56 * 3 * 3 * 512 * 512
    grouped = {layer.name: layer for layer in survey_torchvision("mobilenet_v2", image_size=96)}
    assert grouped["features.1.conv.0.0"].macs == 48**2 * 3 * 3 * 32
    assert grouped["features.1.conv.0.0"].weight_count == 3 * 3 * 32
    # One in each of the 17 blocks.
    assert sum(layer.depthwise for layer in grouped.values()) == 17
    assert grouped["features.1.conv.0.0"].depthwise


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"x": Global(print, "run")}, "builtins.print"),
        ([Global(eval, "1 + 1")], "builtins.eval"),
        (Global(Path, "x"), "pathlib"),
        (Global(bytearray, b"x"), "builtins.bytearray"),
        ({"x": b"bytes"}, "bytes"),
        ({"x": True}, "bool"),
        ({"x": [None]}, "NoneType"),
        ({("a", 1j): 1}, "complex"),
    ],
    ids=["print", "eval", "a class", "bytearray", "bytes", "bool", "None", "complex"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_anything_but_plain_data_is_refused_by_name_and_not_run(content, word, protocol, tmp_path, capsys):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(ArtifactError, match="evil.pkl: refused") as caught:
        load_plain_pickle(tmp_path / "evil.pkl")
    # Old protocols have no opcode for bytes and complex, and call a function for them.
    assert word in str(caught.value) or protocol == 0 or "asks for" in str(caught.value)
    assert capsys.readouterr().out == ""


def test_plain_data_comes_back_also_when_it_contains_itself(tmp_path):
    content = {"a": [1, 2.5, "x", (3,)], "b": {}}
    content["b"]["again"] = content["a"]
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(content))
    assert load_plain_pickle(tmp_path / "plain.pkl") == content
    content["a"].append(content["a"])
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(content))
    assert load_plain_pickle(tmp_path / "plain.pkl")["a"][-1][0] == 1


@pytest.mark.parametrize("data", [b"", b"\x80", b"hello", b"\x80\x04]q", pickle.dumps([1.5, "abc"])[:-3]])
def test_damaged_files_are_refused(data, tmp_path):
    (tmp_path / "bad.pkl").write_bytes(data)
    with pytest.raises(ArtifactError, match="bad.pkl"):
        load_plain_pickle(tmp_path / "bad.pkl")


LAYERS = [ModelLayer("conv", 10, 11, 5, depthwise=True), ModelLayer("fc", 3, 3, 3, depthwise=False)]
ROW = {"4": 0.1, "2": 0.2}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "not the LIMPQ authors' indicators"),
        ({"weight": {"conv": ROW}}, "'act'"),
        ({"weight": {"conv": {"four": 0.1}}, "act": {"conv": ROW}}, "four"),
        ({"weight": {"conv": {"4": "0.1"}}, "act": {"conv": ROW}}, "0.1"),
        ({"weight": {"other": ROW}, "act": {"other": ROW}}, "the model has no layers other"),
        ({"weight": {"conv": ROW}, "act": {}}, "only one of weight and act has conv"),
        ({"weight": {"conv": {"16": 0.1, "2": 0.2}}, "act": {"conv": ROW}}, "from 2 to 8"),
    ],
)
def test_another_content_is_refused(content, words):
    with pytest.raises(ArtifactError, match=words):
        convert_indicators(content, LAYERS)


def test_layers_that_are_not_in_it_are_fixed():
    table = convert_indicators({"weight": {"conv": ROW}, "act": {"conv": ROW}}, LAYERS, fixed_bits=7).table
    assert [(x.weight_bits, x.activation_bits, x.macs) for x in table.layers] == [((4, 2), (4, 2), 10), ((7,), (7,), 3)]
    assert [x.depthwise for x in table.layers] == [True, False]


@pytest.mark.parametrize("options", [["--model", "nosuch"], ["--image-size", "-1"], ["--model", "vit_b_16"]])
def test_a_model_that_does_not_fit_gives_status_2(options, published, tmp_path, capsys):
    (tmp_path / "resnet50.pkl").write_bytes(pickle.dumps(published))
    out = str(tmp_path / "indicators.json")
    assert main(["import-limpq", str(tmp_path / "resnet50.pkl"), *options, "-o", out]) == 2
    assert capsys.readouterr().err.startswith("llt-nncf import-limpq: ArtifactError: ")


def test_a_regnet_is_surveyed_and_what_is_no_classifier_refused():
    assert len(survey_torchvision("regnet_y_400mf", image_size=64)) > 50
    for name in ("fcn_resnet50", "raft_small", "no_such_model"):
        with pytest.raises(ArtifactError, match=f"--model {name}: torchvision has no such classifier"):
            survey_torchvision(name)


def test_a_layer_with_and_without_the_prefix_is_refused():
    rows = {"conv": {4: 0.1, 2: 0.2}, "module.conv": {4: 0.3, 2: 0.4}}
    with pytest.raises(ArtifactError, match="weight has 'conv' with and without 'module.'"):
        convert_indicators({"weight": rows, "act": rows}, survey_torchvision("resnet18"))
