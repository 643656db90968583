"""Somebody who has only the exported files, and only the engines, can validate them."""

import subprocess
import sys

import numpy as np

# What llt_nncf needs for training, search and export; validation is to do without.
TRAINING_STACK = ("torch", "torchvision", "nncf", "ortools", "onnx_ir", "scipy", "jsonschema", "matplotlib")
TRAINING_STACK += ("safetensors", "sklearn")

VALIDATE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Missing())
from llt_nncf.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_validation_imports_neither_torch_nor_nncf():
    code = (
        "import sys, llt_nncf.validation; print([m for m in ('torch', 'nncf', 'llt_nncf.export') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_the_command_runs_where_nothing_of_the_training_stack_is_installed(classifier, tmp_path):
    reference = classifier.reference
    np.savez(tmp_path / "data.npz", inputs=reference.inputs, labels=reference.labels)
    reference.save(tmp_path / "reference.npz")
    for model in (classifier.onnx_path, classifier.onnx_path.with_suffix(".xml")):
        command = [sys.executable, "-c", VALIDATE.format(blocked=TRAINING_STACK), "validate", str(model)]
        command += ["--reference", str(tmp_path / "reference.npz"), "--data", str(tmp_path / "data.npz")]
        done = subprocess.run([*command, "--latency-rounds", "2"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Validation passed." in done.stdout
        assert "Own data, 16 samples" in done.stdout
