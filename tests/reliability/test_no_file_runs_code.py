"""Holds that no file which the package reads can run code: by its sources, and by files that try."""

import ast
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import Reference
from llt_nncf.artifacts import TrainingCurves
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.cli.main import main
from llt_nncf.errors import LltError
from llt_nncf.indicators.training_checkpoint import load_checkpoint
from llt_nncf.limpq import load_plain_pickle

ROOT = Path(__file__).parents[2]
PACKAGE = "llt_nncf"

# Modules that make objects, and so call what they are told to, of the files that they read.
DESERIALIZERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
# Calls that run what they are given; the second ones whatever object they belong to.
BUILTINS = {"eval", "exec", "__import__"}
RUNNERS = {"exec_module", "import_module", "run_path", "run_module"}
UNSAFE = {
    *BUILTINS,
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "torch.jit.load",
    "torch.package.PackageImporter",
}
# Calls that read such files unless this argument has this value.
SAFE_ONLY_WITH = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}

# Beginning of a path -> what may stand there. Code is run only where the user names a file of code.
ALLOWED = {
    "llt_nncf/limpq/plain_pickle.py": {"import pickle"},  # to refuse every name in it
    # llt-nncf run SCRIPT, and the start of the processes that it starts
    "llt_nncf/launcher": {"run_path()", "run_module()", "import_module()", "exec_module()"},
    "llt_nncf/validation/python_file.py": {"exec_module()"},  # --model and --accuracy FILE.py:FUNCTION
    "llt_nncf/cli/main.py": {"import_module()"},  # a subcommand, one of a fixed list
    "benchmarks/deploy.py": {"import_module()"},  # packages of fixed names
    "samples/compare/rivals/choice.py": {"import_module()"},  # likewise
}


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of an expression of names, or nothing."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults_of_call(call: ast.Call) -> Iterator[str]:
    name = dotted(call.func).replace("numpy.", "np.")
    last = name.rpartition(".")[2]
    if last in RUNNERS or name in UNSAFE:
        yield f"{last if last in RUNNERS else name}()"
    if name in SAFE_ONLY_WITH:
        keyword, wanted = SAFE_ONLY_WITH[name]
        given = {word.arg: word.value for word in call.keywords}.get(keyword)
        if not isinstance(given, ast.Constant) or given.value is not wanted:
            yield f"{name}() without {keyword}={wanted}"


def faults(file: Path, root: Path) -> Iterator[tuple[str, str]]:
    """What could run code in ``file``: ``file:line`` and what."""
    path = file.relative_to(root).as_posix()
    allowed = set().union(*(what for beginning, what in ALLOWED.items() if path.startswith(beginning)))
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        found = set(faults_of_call(node)) if isinstance(node, ast.Call) else set()
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found |= {f"import {name.partition('.')[0]}" for name in names if name.partition(".")[0] in DESERIALIZERS}
        yield from ((f"{path}:{node.lineno}", fault) for fault in sorted(found - allowed))


def test_the_package_and_its_samples_run_nothing_that_they_read():
    files = [file for folder in (PACKAGE, "samples", "benchmarks") for file in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 150
    found = [f"{place}: {fault}" for file in files for place, fault in faults(file, ROOT)]
    assert not found, "\n" + "\n".join(found)
    paths = [file.relative_to(ROOT).as_posix() for file in files]
    assert [beginning for beginning in ALLOWED if not any(path.startswith(beginning) for path in paths)] == []


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import os, pickle", "import pickle"),
        ("from pickle import loads", "import pickle"),
        ("def f():\n    import joblib.numpy_pickle", "import joblib"),
        ("torch.load(path)", "torch.load() without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load() without weights_only=True"),
        ("torch.load(path, weights_only=safe)", "torch.load() without weights_only=True"),
        ("numpy.load(path, allow_pickle=True)", "np.load() without allow_pickle=False"),
        ("np.load(path)", "np.load() without allow_pickle=False"),
        ("yaml.load(text)", "yaml.load()"),
        ("eval(text)", "eval()"),
        ("runpy.run_path(path)", "run_path()"),
        ("spec.loader.exec_module(module)", "exec_module()"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, code, fault):
    file = tmp_path / PACKAGE / "indicators" / "planted.py"
    file.parent.mkdir(parents=True)
    file.write_text(code)
    assert [found for _, found in faults(file, tmp_path)] == [fault]


class Harmful:
    """Unpickled it makes a folder, which shows that it ran."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self._folder),)


def zip_of_pickles(path: Path, content: Harmful) -> None:
    with path.open("wb") as file:
        np.savez(file, header=np.array([content]), inputs=np.array([content]))


def from_the_command_line(*arguments: str):
    def load(path: Path):
        if main([argument.format(path) for argument in arguments]) != 0:
            raise LltError(str(path))

    return load


WRITERS = {
    "torch.save": lambda path, content: torch.save({"schema": content, "model": content, "compression": {}}, path),
    "pickle": lambda path, content: path.write_bytes(pickle.dumps(content)),
    "npz": zip_of_pickles,
}
READERS = {
    "importance.ckpt": lambda path: load_checkpoint(path, {}),
    "reference.npz": Reference.load,
    "limpq.pkl": load_plain_pickle,
    "energy.json": CostTable.load,
    "indicators.json": load_scored_layers,
    "importance.jsonl": TrainingCurves.load,
    "model.onnx": from_the_command_line("inspect", "{}"),
    "model.xml": from_the_command_line("inspect", "{}"),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", READERS)
def test_a_harmful_file_in_the_place_of_any_is_refused_by_name_and_not_run(tmp_path, name, writer):
    path, harm = tmp_path / name, tmp_path / "harm"
    WRITERS[writer](path, Harmful(harm))
    with pytest.raises(LltError, match=name):
        READERS[name](path)
    assert not harm.exists()


def test_the_harmful_file_would_be_run_by_a_reader_that_trusts_it(tmp_path):
    WRITERS["torch.save"](tmp_path / "x.pt", Harmful(tmp_path / "harm"))
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert (tmp_path / "harm").is_dir()
