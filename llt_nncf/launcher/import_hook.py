"""The hook by which ``import nncf`` registers the algorithm; light for processes that never import it."""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _RegisteringFinder(MetaPathFinder):
    """Finds nncf as the other finders do, and has ``llt_nncf.register`` imported right after it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "nncf":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            if self in sys.meta_path:  # until now: who looks whether nncf is installed imports it later
                sys.meta_path.remove(self)
            execute(module)
            importlib.import_module("llt_nncf.register")

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_with_nncf() -> None:
    """
    Makes the first ``import nncf`` of this process register the algorithm too.

    Not only that of nncf.torch: a script may load its config, which NNCF checks against the registered algorithms,
    before it imports that.
    """
    os.environ["NNCF_TORCH_LEGACY_TRACING"] = "1"
    if "nncf" in sys.modules:
        importlib.import_module("llt_nncf.register")
    elif not any(isinstance(finder, _RegisteringFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegisteringFinder())
