import json
from pathlib import Path

import numpy as np
import pytest

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ArtifactError


def test_uniform_policy_leaves_fixed_layers_at_their_bits(table: LayerTable):
    policy = BitPolicy.uniform(table, weight_bits=3, activation_bits=2)
    assert policy.bits == {"first": (8, 8), "a": (3, 2), "b": (3, 2), "last": (8, 8)}


def test_uniform_policy_with_bits_that_are_no_candidates_is_refused(table: LayerTable):
    with pytest.raises(ArtifactError, match=r"a: activation bits 3, candidates \[4, 2\]"):
        BitPolicy.uniform(table, weight_bits=3, activation_bits=3)


def test_policy_that_fits_passes_the_check(table: LayerTable, policy: BitPolicy):
    policy.check(table)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"c": (4, 4)}, "'c' is no layer of the table"),
        ({"a": None}, "'a' is missing"),
        ({"first": (4, 8)}, r"first: weight bits 4, candidates \[8\]"),
        ({"last": (8, 4)}, r"last: activation bits 4, candidates \[8\]"),
        ({"a": (8, 2)}, r"a: weight bits 8, candidates \[4, 3, 2\]"),
        ({"b": (2, 4)}, r"a, b share the activation quantizer 'relu' but have \[2, 4\] bits"),
    ],
)
def test_check_names_what_does_not_fit(table: LayerTable, policy: BitPolicy, change: dict, fault: str):
    bits = {name: bits for name, bits in {**policy.bits, **change}.items() if bits}
    with pytest.raises(ArtifactError, match=fault):
        BitPolicy(bits).check(table)


def test_check_names_every_fault_at_once(table: LayerTable):
    with pytest.raises(ArtifactError, match="'c' is no layer.*'first' is missing.*a: weight bits 7.*share"):
        BitPolicy({"c": (8, 8), "a": (7, 2), "b": (4, 4), "last": (8, 8)}).check(table)


def test_activation_bits_are_given_by_quantizer(table: LayerTable, policy: BitPolicy):
    assert policy.activation_bits(table) == {"input": 8, "relu": 2, "pool": 8, "add": 8}


def test_inputs_that_are_float_or_of_several_quantizers_have_no_quantizer():
    rows = [
        Layer(name, 10, 10, group, (4, 2), (8,))
        for name, group in (("a", "a (float input)"), ("b", "b (mixed input)"), ("c", "relu"))
    ]
    policy = BitPolicy(dict.fromkeys("abc", (2, 8)))
    assert policy.activation_bits(LayerTable(tuple(rows))) == {"relu": 8}
    assert [(row.has_quantizer, row.has_float_input) for row in rows] == [(False, True), (False, False), (True, False)]


def test_policy_comes_back_from_its_json(policy: BitPolicy):
    assert BitPolicy.from_json(json.dumps(policy.to_dict()), "here") == policy


@pytest.mark.parametrize("text", ["", "[" * 10_000, "[]", '{"bits": {"a": {"weight_bits": "4"}}}'])
def test_text_that_is_no_policy_is_refused_with_its_place(text: str):
    with pytest.raises(ArtifactError, match="model.onnx, metadata"):
        BitPolicy.from_json(text, "model.onnx, metadata")


def test_integers_of_numpy_are_kept_as_plain_ones(policy: BitPolicy, tmp_path: Path):
    given = BitPolicy({name: tuple(map(np.int64, pair)) for name, pair in policy.bits.items()})
    assert BitPolicy.load(given.save(tmp_path / "policy.json")).bits == policy.bits
