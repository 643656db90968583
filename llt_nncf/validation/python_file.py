"""A Python file of somebody's own, run as a module."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from llt_nncf.errors import ArtifactError


def run_python_file(path: Path) -> ModuleType:
    """
    Runs a file, and returns its module; as in a script, its neighbours can be imported.

    Whatever the file raises passes through.

    :param path: The file.
    :raises ArtifactError: If there is no such file, or it is no Python file.
    """
    if not path.is_file():
        msg = f"{path}: no such file."
        raise ArtifactError(msg)
    # Dataclasses look their module up by its name, which must be nobody else's: not "models".
    name = str(path.resolve())
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        msg = f"{path}: is no Python file."
        raise ArtifactError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
