"""What holds for every artifact: save, load, equal; and no malformed file gets through or past ``ArtifactError``."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llt_nncf.errors import ArtifactError
from llt_nncf.errors import InvalidIndicatorError

WRONG = [None, 2.5, -1, True, "text", "4", [], [[]], {"x": {}}, 10**400, float("nan"), float("inf")]


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Keys that lead to every value inside ``value``."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def replaced(content: Any, path: tuple, value: Any) -> Any:
    """A copy of ``content`` with ``value`` at ``path``."""
    content = copy.deepcopy(content)
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return content


def json_type(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def test_saved_and_loaded_is_equal(artifact, tmp_path: Path):
    path = artifact.save(tmp_path / "new" / "folder" / "artifact.json")
    assert type(artifact).load(path) == artifact
    assert type(artifact).load(str(path)) == artifact
    before = path.read_bytes()
    type(artifact).load(path).save(path)
    assert path.read_bytes() == before


def test_wrong_value_anywhere_gives_an_artifact_error_or_loads_an_artifact(artifact, tmp_path: Path):
    path = artifact.save(tmp_path / "artifact.json")
    content = json.loads(path.read_text())
    refused = 0
    for place in places(content):
        for value in WRONG:
            path.write_text(json.dumps(replaced(content, place, value)))
            try:
                type(artifact).load(path)
            except (ArtifactError, InvalidIndicatorError):
                refused += 1
    assert refused > 50


def test_values_of_another_json_type_are_refused(artifact, tmp_path: Path):
    path = artifact.save(tmp_path / "artifact.json")
    content = json.loads(path.read_text())
    free = {"provenance", "agreement", "rows", "details"}
    checked = 0
    for place in places(content):
        right = json_type(replaced_value(content, place))
        for value in (None, "4", 4, [4], {"x": 4}, True):
            if free & set(place) or json_type(value) == right:
                continue
            path.write_text(json.dumps(replaced(content, place, value)))
            with pytest.raises((ArtifactError, InvalidIndicatorError)):
                type(artifact).load(path)
            checked += 1
    assert checked > 10


def replaced_value(content: Any, path: tuple) -> Any:
    for key in path:
        content = content[key]
    return content


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"\xff\xfe\x00", id="not utf-8"),
        pytest.param(b"[" * 100_000, id="too deep"),
        pytest.param(b"1" * 10_000, id="too long a number"),
        pytest.param(b'{"schema": "llt_nncf.bit_policy/0"}', id="an older schema"),
        pytest.param(b'{"bits": {}}', id="no schema"),
    ],
)
def test_file_that_is_no_artifact_is_refused_by_name(artifact, content: bytes, tmp_path: Path):
    path = tmp_path / "artifact.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"artifact\.json"):
        type(artifact).load(path)


def test_missing_keys_are_refused(artifact, tmp_path: Path):
    path = artifact.save(tmp_path / "artifact.json")
    content = json.loads(path.read_text())
    for key in set(content) - {"provenance", "agreement", "rows", "details"}:
        path.write_text(json.dumps({k: v for k, v in content.items() if k != key}))
        with pytest.raises(ArtifactError, match=key):
            type(artifact).load(path)


def test_missing_file_and_folder_in_its_place_are_refused(artifact, tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such file"):
        type(artifact).load(tmp_path / "none.json")
    with pytest.raises(ArtifactError, match="cannot be read"):
        type(artifact).load(tmp_path)


def test_one_artifact_is_not_taken_for_another(policy, table, tmp_path: Path):
    path = policy.save(tmp_path / "policy.json")
    with pytest.raises(ArtifactError, match=r"bit_policy/1.*must be.*layer_table/1"):
        type(table).load(path)
