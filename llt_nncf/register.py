"""
``import llt_nncf.register`` adds ``llt_quantization`` to NNCF's algorithms: the one line that a script needs.

It must come before ``nncf.torch`` is first imported: NNCF 2.19 decides at that moment how it traces models, and
``create_compressed_model`` needs the tracing that the environment variable NNCF_TORCH_LEGACY_TRACING=1 selects.
"""

import importlib.metadata
import os

from llt_nncf.errors import RegistrationError

_LEGACY_TRACING = "NNCF_TORCH_LEGACY_TRACING"


def _check_version() -> None:
    version = importlib.metadata.version("nncf")
    if not version.startswith("2.") or int(version.split(".")[1]) < 19:
        msg = f"llt_nncf works with nncf 2.19; nncf {version} is installed. Run: pip install 'nncf>=2.19,<3'"
        raise RegistrationError(msg)


def _check_tracing() -> None:
    if not PATCHING_STATE.operators_are_wrapped:
        msg = (
            "llt_nncf.register was imported after nncf.torch. Move 'import llt_nncf.register' above the first "
            f"import of nncf.torch, start the script by 'llt-nncf run', or set {_LEGACY_TRACING}=1 in the environment."
        )
        raise RegistrationError(msg)


_check_version()
os.environ[_LEGACY_TRACING] = "1"

# ruff: noqa: E402  (the variable must be set before nncf.torch is imported, which happens in the next lines)
from nncf.torch.dynamic_graph.patch_pytorch_state import PATCHING_STATE

from llt_nncf.adapter import builder as builder
from llt_nncf.adapter.composite import register_composite
from llt_nncf.adapter.nncf_schema import register_schema
from llt_nncf.adapter.state_guard import guard_creation
from llt_nncf.adapter.state_guard import keep_batch_norm_names

_check_tracing()
register_schema()
guard_creation()
keep_batch_norm_names()
register_composite()
