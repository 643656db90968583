"""
``import llt_nncf.register`` adds ``llt_quantization`` to NNCF's algorithms: the one line that a script needs.

It must come before ``nncf.torch`` is first imported: NNCF 2.19 decides at that moment how it traces models, and
``create_compressed_model`` needs the tracing that the environment variable NNCF_TORCH_LEGACY_TRACING=1 selects.
"""

import importlib.metadata
import os
import sys

from llt_nncf.errors import RegistrationError

_LEGACY_TRACING = "NNCF_TORCH_LEGACY_TRACING"


def _register() -> None:
    enabled = os.environ.get(_LEGACY_TRACING, "").lower() in ("1", "on", "true")
    if "nncf.torch" in sys.modules and not enabled:
        msg = (
            "llt_nncf.register was imported after nncf.torch. Move 'import llt_nncf.register' above the first import of "
            f"nncf.torch, start the script by 'llt-nncf run', or set {_LEGACY_TRACING}=1 in the environment."
        )
        raise RegistrationError(msg)
    version = importlib.metadata.version("nncf")
    if tuple(int(part) for part in version.split(".")[:2]) < (2, 19) or not version.startswith("2."):
        msg = f"llt_nncf works with nncf 2.19; nncf {version} is installed. Run: pip install 'nncf>=2.19,<3'"
        raise RegistrationError(msg)
    os.environ[_LEGACY_TRACING] = "1"


_register()

from llt_nncf.adapter import builder as builder  # noqa: E402  (the environment must be set before nncf.torch is imported)
from llt_nncf.adapter.nncf_schema import register_schema  # noqa: E402

register_schema()
