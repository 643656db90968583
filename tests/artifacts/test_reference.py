"""The reference survives saving, and a file that is none is refused by name."""

import json

import numpy as np
import pytest

from llt_nncf.artifacts import Reference
from llt_nncf.artifacts import weight_digest
from llt_nncf.errors import ArtifactError

INPUTS = np.ones((4, 3), np.float32)
LOGITS = np.arange(8, dtype=np.float32).reshape(4, 2)


def reference(**changes):
    values = {
        "inputs": INPUTS,
        "logits": LOGITS,
        "labels": np.array([0, 1, 1, 0]),
        "float_logits": LOGITS + 1,
        "taps": {"/net/conv|0": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.zeros((2, 1), np.uint8)},
        "ties": {"/net/conv|0": np.array([[True, False, False], [False, True, True]])},
        "weight_digests": {"conv": "ab"},
    }
    return Reference(**{**values, **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"labels": None, "float_logits": None, "taps": {}, "ties": {}, "weight_digests": {}}]
)
def test_saved_and_loaded_is_equal(changes, tmp_path):
    saved = reference(**changes)
    loaded = Reference.load(saved.save(tmp_path / "reference.npz"))
    for name in ("inputs", "logits", "labels", "float_logits"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    assert list(loaded.taps) == list(saved.taps)
    assert loaded.weight_digests == saved.weight_digests
    assert loaded.num_tap_samples == (2 if saved.taps else 0)
    for name, codes in saved.taps.items():
        np.testing.assert_array_equal(loaded.taps[name], codes)
    assert list(loaded.ties) == list(saved.ties)
    for name, ties in saved.ties.items():
        np.testing.assert_array_equal(loaded.ties[name], ties)
    assert [file.name for file in tmp_path.iterdir()] == ["reference.npz"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"logits": LOGITS[:3]}, "logits has shape"),
        ({"logits": LOGITS * np.nan}, "NaN"),
        ({"inputs": INPUTS.astype(np.float64)}, "float64"),
        ({"inputs": INPUTS[:0]}, "no samples"),
        ({"labels": np.zeros((4, 2), np.int64)}, "one index per input"),
        ({"float_logits": LOGITS[:, :1]}, "float_logits has shape"),
        ({"taps": {"q": np.zeros((5, 1), np.uint8)}}, "tap 'q'"),
        ({"taps": {"q": np.zeros((2, 1), np.int8)}}, "tap 'q'"),
        ({"ties": {"q": np.zeros((2, 1), bool)}}, "ties 'q'"),
        ({"ties": {"b": np.zeros((1, 2), bool)}}, "ties 'b' are bool of shape"),
        ({"ties": {"b": np.zeros((2, 1), np.uint8)}}, "ties 'b' are uint8"),
        ({"taps": {"q": np.zeros((2, 1), np.uint8), "r": np.zeros((1, 1), np.uint8)}}, "different numbers"),
    ],
)
def test_inconsistent_values_are_refused(changes, text):
    with pytest.raises(ArtifactError, match=text):
        reference(**changes)


def test_files_that_are_none_are_refused(tmp_path):
    missing, text, other, cut = (tmp_path / f"{name}.npz" for name in ("missing", "text", "other", "cut"))
    text.write_text("hello")
    np.savez(other, inputs=INPUTS)
    cut.write_bytes(reference().save(tmp_path / "whole.npz").read_bytes()[:300])
    for path in (missing, text, other, cut, tmp_path):
        with pytest.raises(ArtifactError, match=path.name):
            Reference.load(path)


def test_a_file_of_the_first_version_is_refused_with_the_remedy(tmp_path):
    header = json.dumps({"schema": "llt_nncf.reference/1", "taps": [], "weight_digests": {}})
    np.savez(tmp_path / "old.npz", header=np.array(header), inputs=INPUTS, logits=LOGITS)
    with pytest.raises(ArtifactError, match="old.npz: schema 'llt_nncf.reference/1'.*Record it again"):
        Reference.load(tmp_path / "old.npz")


def test_digest_tells_codes_shapes_and_steps_apart():
    codes, step_size = np.arange(6, dtype=np.int8), np.float32([0.5])
    digests = {
        weight_digest(codes, step_size),
        weight_digest(codes.reshape(2, 3), step_size),
        weight_digest(codes[::-1], step_size),
        weight_digest(codes, step_size * 2),
    }
    assert len(digests) == 4
    assert weight_digest(codes, step_size) == weight_digest(codes.copy(), np.float32(0.5))
