"""What a killed process left is removed by the next one that makes the same; what is in use or foreign stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llt_nncf.artifacts import temporary_path
from llt_nncf.artifacts import write_atomically

KILLED = """
import os, signal, sys
from pathlib import Path
from llt_nncf.artifacts import temporary_path

with temporary_path(Path(sys.argv[1]), is_folder=sys.argv[2] == "folder") as path:
    (path / "half" if path.is_dir() else path).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, kind):
    path = tmp_path / "model.onnx"
    command = [sys.executable, "-c", KILLED, str(path), kind]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run(command, env=env, check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".unfinished-model-")
    write_atomically(path, lambda temporary: temporary.write_text("whole"))
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_in_use_or_of_another_file_stays(tmp_path: Path):
    mine = [tmp_path / name for name in (".model-12345678.onnx", ".unfinished-model.onnx", ".unfinished-model-x.onnx")]
    for path in mine:
        path.write_text("my own")
    with temporary_path(tmp_path / "model.onnx") as first, temporary_path(tmp_path / "model.onnx") as second:
        with temporary_path(tmp_path / "other.onnx", is_folder=True) as third:
            assert {first, second, third, *mine} == set(tmp_path.iterdir())
        assert not third.exists()
    assert set(tmp_path.iterdir()) == set(mine)


def test_a_name_with_the_signs_of_a_pattern_matches_itself_alone(tmp_path: Path):
    left = tmp_path / ".unfinished-[ab]-12345678.json"
    other = tmp_path / ".unfinished-a-12345678.json"
    for path in (left, other):
        path.write_text("half")
    write_atomically(tmp_path / "[ab].json", lambda temporary: temporary.write_text("whole"))
    assert set(tmp_path.iterdir()) == {tmp_path / "[ab].json", other}
