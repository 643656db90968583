"""Accuracy on somebody's own samples, by their own function, and errors that say what is wrong with them."""

import re

import numpy as np
import pytest

from llt_nncf.errors import ArtifactError
from llt_nncf.validation import load_accuracy_function
from llt_nncf.validation import validate

ENGINES = ("onnxruntime", "openvino")


def run(classifier, data, **kwargs):
    return validate(classifier.reference, classifier.onnx_path, latency_rounds=0, data=data, batch_size=3, **kwargs)


@pytest.fixture
def samples(classifier):
    """Inputs that the reference has no outputs for, and labels of which a known share is what the model says."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((10, *classifier.reference.inputs.shape[1:])).astype(np.float32)
    outputs = []

    def keep(found, labels):
        outputs.append(found)
        return 0.0

    np.savez(classifier.onnx_path.with_name("unlabelled.npz"), inputs=inputs)
    run(classifier, classifier.onnx_path.with_name("unlabelled.npz"), accuracy_function=keep)
    labels = outputs[0].argmax(1)
    labels[:3] = (labels[:3] + 1) % 10
    return inputs, labels


def test_a_file_and_a_folder_of_parts_give_the_same_figures(classifier, samples, tmp_path):
    inputs, labels = samples
    np.savez(tmp_path / "all.npz", inputs=inputs, labels=labels)
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, part in enumerate((slice(0, 4), slice(4, 5), slice(5, 10))):
        np.savez(parts / f"{number}.npz", inputs=inputs[part], labels=labels[part])
    expected = {"samples": 10, "engines": {name: {"accuracy": 0.7} for name in ENGINES}, "agreement": 1.0}
    for data in (tmp_path / "all.npz", parts):
        assert run(classifier, data).sections["data"] == expected


def test_without_labels_there_is_the_agreement_of_the_engines(classifier, samples, tmp_path):
    np.savez(tmp_path / "data.npz", inputs=samples[0])
    section = run(classifier, tmp_path / "data.npz").sections["data"]
    assert section == {"samples": 10, "engines": {name: {} for name in ENGINES}, "agreement": 1.0}


def test_a_function_of_ones_own_gets_all_outputs_and_labels_of_any_kind(classifier, samples, tmp_path):
    inputs, labels = samples
    targets = np.eye(10, dtype=np.float32)[labels]
    np.savez(tmp_path / "data.npz", inputs=inputs, labels=targets)
    (tmp_path / "score.py").write_text(
        "import numpy as np\n"
        "def distance(outputs, labels):\n"
        "    assert outputs.shape == labels.shape == (10, 10)\n"
        "    return {'right': np.mean(outputs.argmax(1) == labels.argmax(1)), 'count': len(labels)}\n"
    )
    function = load_accuracy_function(f"{tmp_path}/score.py:distance")
    section = run(classifier, tmp_path / "data.npz", accuracy_function=function).sections["data"]
    assert section["engines"] == {name: {"right": 0.7, "count": 10.0} for name in ENGINES}


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"images": np.zeros((2, 3, 6, 6), np.float32)}, "has the arrays ['images'], but no 'inputs'"),
        ({"inputs": np.zeros((2, 3, 6, 6), np.uint8)}, "inputs is uint8"),
        (
            {"inputs": np.zeros((2, 3, 5, 6), np.float32)},
            "of shape (2, 3, 5, 6), and must be floats of shape (N, 3, 6",
        ),
        ({"inputs": np.full((2, 3, 6, 6), np.nan, np.float32)}, "NaN"),
        ({"inputs": np.zeros((2, 3, 6, 6), np.float32), "labels": np.zeros(3, int)}, "labels has shape (3,) for 2"),
        ({"inputs": np.zeros((2, 3, 6, 6), np.float32), "labels": np.zeros((2, 4))}, "Give an accuracy function"),
    ],
)
def test_samples_that_do_not_fit_are_refused_with_what_would(classifier, tmp_path, arrays, text):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(ArtifactError, match=re.escape(text)) as caught:
        run(classifier, tmp_path / "data.npz")
    assert "data.npz" in str(caught.value)


def test_paths_that_lead_to_no_samples_are_refused(classifier, samples, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "mixed").mkdir()
    np.savez(tmp_path / "mixed" / "0.npz", inputs=samples[0], labels=samples[1])
    np.savez(tmp_path / "mixed" / "1.npz", inputs=samples[0])
    for name, text in (
        ("none.npz", "no such file"),
        ("empty", "no .npz"),
        ("text.npz", "not an .npz"),
        ("mixed", "some"),
    ):
        with pytest.raises(ArtifactError, match=f"{name}.*{text}"):
            run(classifier, tmp_path / name)


@pytest.mark.parametrize(
    ("code", "name", "text"),
    [
        ("", "f", "has no function 'f'"),
        ("f = 3", "f", "has no function 'f'"),
        ("import no_such_module", "f", "can be run: ModuleNotFoundError"),
        ("def f(:", "f", "can be run: SyntaxError"),
    ],
)
def test_files_without_the_function_are_refused(tmp_path, code, name, text):
    (tmp_path / "score.py").write_text(code)
    with pytest.raises(ArtifactError, match=text):
        load_accuracy_function(f"{tmp_path}/score.py:{name}")


def test_a_file_may_have_neighbours_and_dataclasses_of_postponed_annotations(tmp_path):
    (tmp_path / "neighbour_of_score.py").write_text("HALF = 0.5")
    (tmp_path / "score.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from neighbour_of_score import HALF\n"
        "@dataclass\n"
        "class Score:\n"
        "    value: float\n"
        "def f(outputs, labels):\n"
        "    return Score(HALF).value\n"
    )
    assert load_accuracy_function(f"{tmp_path}/score.py:f")(None, None) == 0.5


@pytest.mark.parametrize("text", ["score.py", "score:f", "score.py:", "none.py:f"])
def test_texts_that_name_no_function_are_refused(tmp_path, text):
    with pytest.raises(ArtifactError, match=re.escape(text.removesuffix(":f"))):
        load_accuracy_function(text)


def fail(outputs, labels):
    raise KeyError("no such class")


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (fail, "raised KeyError"),
        (lambda *_: float("nan"), "returned nan"),
        (lambda *_: {"a": "b"}, "returned 'b' as 'a'"),
    ],
)
def test_a_function_that_fails_is_a_fault(classifier, samples, tmp_path, function, text):
    np.savez(tmp_path / "data.npz", inputs=samples[0])
    (fault,) = run(classifier, tmp_path / "data.npz", accuracy_function=function).faults
    assert "data.npz" in fault
    assert text in fault
