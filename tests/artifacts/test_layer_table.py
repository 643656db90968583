from dataclasses import replace

import pytest

from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ArtifactError

A = Layer("a", 200, 20, "relu", (4, 3, 2), (4, 2))


def test_layers_are_found_by_name_and_by_the_quantizer_that_feeds_them(table: LayerTable):
    assert table.by_name["b"] is table.layers[2]
    names = {group: [layer.name for layer in layers] for group, layers in table.groups.items()}
    assert names == {"input": ["first"], "relu": ["a", "b"], "pool": ["last"]}


def test_layer_is_fixed_when_nothing_is_left_to_decide():
    assert not A.is_fixed
    assert not replace(A, weight_bits=(8,)).is_fixed
    assert replace(A, weight_bits=(8,), activation_bits=(8,)).is_fixed


@pytest.mark.parametrize(
    ("layers", "fault"),
    [
        ((), "there is no layer"),
        ((A, A), "'a' is listed twice"),
        ((replace(A, macs=0),), "macs=0"),
        ((replace(A, weight_count=-1),), "weight_count=-1"),
        ((replace(A, weight_bits=()),), r"a.weight_bits=\[\]"),
        ((replace(A, weight_bits=(2, 4)),), "descending"),
        ((replace(A, activation_bits=(4, 4)),), r"a.activation_bits=\[4, 4\]"),
        ((replace(A, activation_bits=(9, 2)),), "from 2 to 8"),
        ((replace(A, activation_bits=(4, 1)),), "from 2 to 8"),
        ((A, replace(A, name="b", activation_bits=(4, 3))), "a and b share the activation quantizer 'relu'"),
    ],
)
def test_contradictory_rows_are_refused(layers: tuple[Layer, ...], fault: str):
    with pytest.raises(ArtifactError, match=fault):
        LayerTable(layers)


def test_unsearched_quantizers_need_supported_bits():
    with pytest.raises(ArtifactError, match=r"unsearched\['add'\]=16"):
        LayerTable((A,), {"add": 16})


def test_all_faults_are_named_at_once():
    with pytest.raises(ArtifactError, match=r"macs=0.*listed twice.*weight_bits=\[9\]"):
        LayerTable((replace(A, macs=0), replace(A, weight_bits=(9,))))


def test_values_for_other_files_come_back_without_a_file(table: LayerTable):
    assert LayerTable.from_dict(table.to_dict()) == table


def test_depthwise_is_written_where_it_holds_and_files_without_it_load_as_equal(table: LayerTable):
    content = table.to_dict()
    assert [row.get("depthwise") for row in content["layers"]] == [None, None, True, None]
    assert [layer.depthwise for layer in LayerTable.from_dict(content).layers] == [False, False, True, False]
    del content["layers"][2]["depthwise"]
    older = LayerTable.from_dict(content)
    assert not older.by_name["b"].depthwise
    assert older == table


def test_unknown_key_of_a_row_is_refused(table: LayerTable):
    content = table.to_dict()
    content["layers"][0]["bias_bits"] = 32
    with pytest.raises(ArtifactError, match="bias_bits"):
        LayerTable.from_dict(content)
