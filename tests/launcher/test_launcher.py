"""Programs under ``llt-nncf run`` start as under Python, and so do the processes that they start, with the hook."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What every process reports: its kind, whether `import nncf` would register the algorithm, and what is imported.
REPORT = """
import sys


def report(kind):
    hooked = any(type(finder).__name__ == "_RegisteringFinder" for finder in sys.meta_path)
    heavy = {"nncf", "numpy", "torch"} & set(sys.modules)
    print(kind, hooked, len(heavy), sys.modules["sitecustomize"].__file__, flush=True)
"""

STARTS_OTHERS = """
import multiprocessing, os, subprocess, sys
from report import report

CODE = "from report import report; report(sys.argv[1])"
NESTED = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import sys;' + sys.argv[1], 'grandchild'])"

if __name__ == "__main__":
    report("program")
    subprocess.run([sys.executable, "-c", "import sys;" + CODE, "subprocess"], check=True)
    subprocess.run([sys.executable, "-c", NESTED, CODE], check=True)
    for kind in ("spawn", "forkserver", "fork"):
        process = multiprocessing.get_context(kind).Process(target=report, args=(kind,))
        process.start()
        process.join()
"""


def call(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), path]))}
    command = [sys.executable, "-m", "llt_nncf.cli", "run", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("program", [["main.py"], ["-m", "main"]], ids=["script", "module"])
def test_every_process_that_a_program_starts_has_the_hook_and_its_own_sitecustomize(tmp_path, program):
    (tmp_path / "report.py").write_text(REPORT)
    (tmp_path / "main.py").write_text(STARTS_OTHERS)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("")
    done = call(tmp_path, *program, path=os.pathsep.join([str(tmp_path), str(site)]))
    assert done.returncode == 0, done.stderr
    own = str(site / "sitecustomize.py")
    kinds = ["program", "subprocess", "grandchild", "spawn", "forkserver", "fork"]
    assert done.stdout.splitlines() == [f"{kind} True 0 {own}" for kind in kinds]


def test_a_process_of_an_environment_without_the_package_starts_as_ever(tmp_path):
    folder = ROOT / "llt_nncf" / "launcher" / "process_start"
    env = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", "print('started')"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")


def test_the_program_finds_its_arguments_and_its_folder_as_under_python(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "beside.py").write_text("VALUE = 3")
    (tmp_path / "inner" / "main.py").write_text("import sys, beside; print(__name__, sys.argv, beside.VALUE)")
    done = call(tmp_path, "inner/main.py", "-m", "train", "--", "--resume", "x")
    assert done.stdout == "__main__ ['inner/main.py', '-m', 'train', '--', '--resume', 'x'] 3\n"
    (tmp_path / "inner" / "__init__.py").write_text("")
    (tmp_path / "inner" / "__main__.py").write_text("import sys; print(__name__, sys.argv[1:])")
    done = call(tmp_path, "-m", "inner", "-m", "train")
    assert done.stdout == "__main__ ['-m', 'train']\n"


@pytest.mark.parametrize(
    ("code", "status", "last_line"),
    [
        ("import sys; sys.exit(7)", 7, None),
        ("open('no-such-file')", 1, "FileNotFoundError: [Errno 2] No such file or directory: 'no-such-file'"),
        (
            "from llt_nncf.errors import InfeasibleBudgetError\nraise InfeasibleBudgetError('too small')",
            1,
            "llt_nncf.errors.InfeasibleBudgetError: too small",
        ),
    ],
    ids=["exit", "error-of-the-system", "error-of-the-package"],
)
def test_exit_status_and_traceback_are_those_of_python(tmp_path, code, status, last_line):
    (tmp_path / "main.py").write_text(code)
    done = call(tmp_path, "main.py")
    assert done.returncode == status
    if last_line is None:
        assert done.stderr == ""
    else:
        assert done.stderr.startswith("Traceback")
        assert 'File "main.py", line' in done.stderr
        assert done.stderr.splitlines()[-1] == last_line


def test_the_algorithm_is_registered_for_a_program_that_first_looks_whether_nncf_is_installed(tmp_path):
    (tmp_path / "main.py").write_text(
        "import importlib.util, sys\n"
        "assert importlib.util.find_spec('nncf') and importlib.util.find_spec('nncf')\n"
        "import nncf\n"
        "print('llt_nncf.register' in sys.modules, any('Registering' in type(f).__name__ for f in sys.meta_path))\n"
    )
    assert call(tmp_path, "main.py").stdout.splitlines()[-1] == "True False"


def test_a_script_that_is_not_there_is_refused(tmp_path):
    done = call(tmp_path, "nothing.py")
    assert done.returncode == 2
    assert done.stderr == "llt-nncf run: ArtifactError: nothing.py: no such script.\n"
