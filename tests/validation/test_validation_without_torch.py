"""Somebody who has only the exported files can validate them."""

import subprocess
import sys


def test_validation_imports_neither_torch_nor_nncf():
    code = (
        "import sys, llt_nncf.validation; print([m for m in ('torch', 'nncf', 'llt_nncf.export') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
