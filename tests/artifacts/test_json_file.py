import os
import stat
from pathlib import Path

import pytest

from llt_nncf.artifacts import load_json
from llt_nncf.artifacts import save_json
from llt_nncf.artifacts import write_atomically
from llt_nncf.errors import ArtifactError


def test_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failing_writer_makes_no_new_file(tmp_path: Path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "new.bin", lambda temporary: 1 / 0)
    assert list(tmp_path.iterdir()) == []


def test_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path):
    path = tmp_path / "policy.json"
    path.write_text("old")
    seen = []

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        seen.append(path.read_text())
        assert temporary.suffix == path.suffix
        assert temporary.parent == path.parent

    assert write_atomically(path, write) == path
    assert seen == ["old"]
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_writer_may_replace_its_temporary_file(tmp_path: Path):
    def write(temporary: Path) -> None:
        temporary.unlink()
        temporary.write_text("new")

    assert write_atomically(str(tmp_path / "a" / "b.txt"), write).read_text() == "new"


def test_new_file_has_the_mode_of_any_new_file(tmp_path: Path):
    umask = os.umask(0o027)
    try:
        path = write_atomically(tmp_path / "x.json", lambda temporary: temporary.write_text("x"))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_values_that_json_does_not_have_are_refused_before_anything_is_written(value, tmp_path: Path):
    with pytest.raises((ValueError, TypeError)):
        save_json(tmp_path / "x.json", "test/1", {"value": value})
    assert list(tmp_path.iterdir()) == []


def test_content_comes_back_without_the_schema(tmp_path: Path):
    path = save_json(tmp_path / "x.json", "test/1", {"größe": [1, 2.5, None]})
    assert load_json(path, "test/1") == {"größe": [1, 2.5, None]}


def test_file_and_folder_are_on_the_disk_in_this_order_before_the_writer_returns(tmp_path: Path, monkeypatch):
    # What a power cut leaves is decided by what was synced before what.
    course = []
    fsync, replace = os.fsync, Path.replace

    def spy_on_fsync(handle):
        course.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"file of {os.fstat(handle).st_size}")
        fsync(handle)

    def spy_on_replace(path, target):
        course.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", spy_on_fsync)
    monkeypatch.setattr(Path, "replace", spy_on_replace)
    write_atomically(tmp_path / "x.bin", lambda temporary: temporary.write_bytes(b"12345"))
    assert course == ["file of 5", "rename", "folder"]


def test_a_key_that_is_there_twice_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "policy.json"
    path.write_text('{"schema": "test/1", "bits": {"conv": 4, "fc": 8, "conv": 3}}')
    with pytest.raises(ArtifactError, match=r"policy\.json: .* it has 'conv' twice"):
        load_json(path, "test/1")


@pytest.mark.parametrize(
    ("schema", "remedy"), [("test/0", "Write it again with this version"), ("other/1", "Give a file of test.")]
)
def test_another_schema_is_refused_with_its_own_remedy(tmp_path: Path, schema: str, remedy: str):
    with pytest.raises(ArtifactError, match=remedy):
        load_json(save_json(tmp_path / "a.json", schema, {}), "test/1")


def test_a_link_is_followed_and_a_mode_kept(tmp_path):
    file, link = tmp_path / "file.txt", tmp_path / "link.txt"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    write_atomically(link, lambda temporary: temporary.write_text("new"))
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ArtifactError, match="pipe: is no file"):
        write_atomically(pipe, lambda temporary: temporary.write_text("new"))
    assert pipe.is_fifo()
