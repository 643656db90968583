"""The first thing that a process below ``llt-nncf run`` does: gets the hook, then the sitecustomize that this hides."""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

# A program may start the Python of another environment.
if importlib.util.find_spec("llt_nncf") is not None:
    importlib.import_module("llt_nncf.launcher.import_hook").register_with_nncf()

_others = [path for path in sys.path if os.path.realpath(path) != os.path.dirname(os.path.realpath(__file__))]
_hidden = PathFinder.find_spec("sitecustomize", _others)
if _hidden is not None and _hidden.loader is not None:
    sys.modules["sitecustomize"] = importlib.util.module_from_spec(_hidden)
    _hidden.loader.exec_module(sys.modules["sitecustomize"])
