"""Holds the structure of the package: who may import whom and what, and how files are named and sized."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "llt_nncf"

# One row per level, the lowest first: a unit imports from rows above its own here, never from its own or below.
# docs/architecture.md has the same rows with the reasons.
LEVELS = [
    ["errors"],
    ["functional", "artifacts"],
    ["quantizers", "cost"],
    ["indicators", "allocation", "config", "plots", "limpq"],
    ["export"],
    ["validation"],
    ["adapter"],
    ["register"],
    ["launcher", "pipeline"],
    ["cli"],
]
LEVEL_OF = {unit: level for level, units in enumerate(LEVELS) for unit in units}

HOMES = {
    "nncf": {"adapter", "register"},
    "ortools": {"allocation"},
    "onnxruntime": {"validation"},
    "openvino": {"export", "validation"},
    "onnx": {"export", "validation"},
    "onnx_ir": {"export", "validation"},
    "matplotlib": {"plots"},
    "jsonschema": {"config"},
    "torchvision": {"limpq", "pipeline"},
    "triton": {"functional"},
}
DEPENDENCIES = {*HOMES, "torch", "torchvision", "numpy", "rich", "safetensors", "sklearn", "pytest"}
VAGUE_NAMES = {"utils", "helpers", "common", "misc"}
MAX_LINES = 400

# File -> why it imports inside functions.
LATE_IMPORTS = {
    "llt_nncf/indicators/tensorboard_log.py": "tensorboard is an extra, and takes a second to import",
    "llt_nncf/functional/gpu_kernels.py": "triton comes with PyTorch for GPUs only, and nobody wants it without one",
}

# Modules that must stay usable where none of HEAVY is wanted, or installed.
LIGHT_MODULES = ["llt_nncf", "llt_nncf.artifacts", "llt_nncf.cost", "llt_nncf.allocation", "llt_nncf.config"]
HEAVY = ["torch", "nncf", "onnx", "openvino"]


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Every absolute import with the dotted name of what it reads; ``from a import b`` reads ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def faults_of_direction(unit: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Imports inside the package that do not point to a lower level, or that go through the package's own map."""
    for node, name in imports(tree):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top != PACKAGE or other in (unit, "", "__version__"):
            continue
        if unit not in LEVEL_OF:
            yield node.lineno, f"{unit} is in no level, so it may not import {name}"
        elif other not in LEVEL_OF:
            yield node.lineno, f"{name} is in no level"
        elif LEVEL_OF[other] >= LEVEL_OF[unit]:
            yield node.lineno, f"{unit} (level {LEVEL_OF[unit]}) imports {other} (level {LEVEL_OF[other]})"


def faults_of_own_map(unit: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Files that import from the ``__init__`` of their own package, not from the sibling that has the name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == f"{PACKAGE}.{unit}":
            yield node.lineno, f"import from the module that defines the name, not from {node.module}"


def faults_of_home(unit: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Heavy dependencies outside their home."""
    for node, name in imports(tree):
        dependency = name.partition(".")[0]
        if dependency in HOMES and unit not in HOMES[dependency]:
            yield (
                node.lineno,
                f"{dependency} may be imported in {sorted(HOMES[dependency]) or 'no unit'}, not in {unit}",
            )


def faults_of_form(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Star imports, relative imports, and imports inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "relative import"
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            yield node.lineno, "star import"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and path not in LATE_IMPORTS:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield inner.lineno, f"import inside {node.name}()"


def faults_of_file(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Names and lengths."""
    if path.stem in VAGUE_NAMES:
        yield 1, f"{path.name} says nothing: name the file after its noun"
    if path.stem in DEPENDENCIES:
        yield 1, f"{path.name} bears the name of a dependency"
    if (lines := text.count("\n")) > MAX_LINES:
        yield MAX_LINES, f"{lines} lines, and {MAX_LINES} are allowed"


def structure_faults(root: Path) -> list[str]:
    """All faults of the package under ``root``, each as ``file:line: what``."""
    faults = []
    for file in sorted((root / PACKAGE).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text, str(file))
        path = file.relative_to(root)
        unit = path.parts[1].removesuffix(".py")
        found = [
            *faults_of_direction(unit, tree),
            *(faults_of_own_map(unit, tree) if file.name != "__init__.py" else ()),
            *faults_of_home(unit, tree),
            *faults_of_form(path.as_posix(), tree),
            *faults_of_file(path, text),
        ]
        faults += [f"{path.as_posix()}:{line}: {fault}" for line, fault in sorted(set(found))]
    return faults


def test_the_package_keeps_its_structure():
    faults = structure_faults(ROOT)
    assert not faults, "\n" + "\n".join(faults)


def test_files_allowed_to_import_late_exist():
    assert [path for path in LATE_IMPORTS if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_light_module_imports_nothing_heavy(module: str):
    code = f"import sys, {module}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"import {module} drags in {done.stdout.strip()}"


@pytest.mark.parametrize(
    ("file", "code", "fault"),
    [
        ("functional/lsq.py", "import llt_nncf.cost.budget", "1: functional (level 1) imports cost (level 2)"),
        ("functional/lsq.py", "from llt_nncf import artifacts", "1: functional (level 1) imports artifacts (level 1)"),
        (
            "functional/lsq.py",
            "from llt_nncf.functional import start",
            "1: import from the module that defines the name",
        ),
        ("__init__.py", "from llt_nncf.errors import LltError", "1: __init__ is in no level"),
        ("wizardry/spell.py", "from llt_nncf.errors import LltError", "1: wizardry is in no level"),
        ("cli/main.py", "from llt_nncf.wizardry import cast", "1: llt_nncf.wizardry.cast is in no level"),
        ("pipeline/insert.py", "x = 1\nimport nncf.torch", "2: nncf may be imported in ['adapter', 'register']"),
        ("plots/bits.py", "from onnx import helper", "1: onnx may be imported in ['export', 'validation']"),
        ("export/spec.py", "from .packing import pack", "1: relative import"),
        ("export/spec.py", "from math import *", "1: star import"),
        ("export/spec.py", "class A:\n    def f(self):\n        import os", "3: import inside f()"),
        ("export/onnx.py", "", "1: onnx.py bears the name of a dependency"),
        ("export/utils.py", "", "1: utils.py says nothing"),
        ("export/spec.py", "\n" * 401, "400: 401 lines"),
    ],
)
def test_a_planted_fault_is_found_with_its_line(tmp_path: Path, file: str, code: str, fault: str):
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(code, encoding="utf-8")
    (found,) = structure_faults(tmp_path)
    assert found.startswith(f"{PACKAGE}/{file}:{fault}")


def test_imports_of_lower_levels_and_siblings_are_allowed(tmp_path: Path):
    path = tmp_path / PACKAGE / "export" / "spec.py"
    path.parent.mkdir(parents=True)
    path.write_text("import onnx\nfrom llt_nncf.export.packing import pack\nfrom llt_nncf.errors import E\n")
    assert structure_faults(tmp_path) == []
