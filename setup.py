"""Packaging of llt_nncf; tool settings are in pyproject.toml, the versions that CI uses in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages
from setuptools import setup

# Read as text: importing the package would need its dependencies before they are installed.
INIT = Path(__file__).parent / "llt_nncf" / "__init__.py"
SAMPLES = ["scikit-learn", "jinja2"]

setup(
    name="llt-nncf",
    version=re.search(r'__version__ = "(.+)"', INIT.read_text(encoding="utf-8"))[1],
    description="Mixed-precision quantization by learned layer-wise importance, as a plugin for NNCF",
    packages=find_packages(include=["llt_nncf", "llt_nncf.*"]),
    python_requires=">=3.10,<3.14",
    # The ranges that were tried. NNCF 2.19 is the last with `create_compressed_model`.
    install_requires=[
        "torch>=2.9,<2.16",
        "torchvision",
        "nncf>=2.19,<3",
        "onnx",
        "onnx-ir",
        "onnxruntime",
        "openvino>=2026.4",
        "ortools",
        "numpy",
        "scipy",
        "jsonschema",
        "rich",
        "matplotlib",
        "safetensors",
    ],
    extras_require={
        "samples": SAMPLES,
        # Rivals of samples/compare; in an environment of their own, for MCT wants matplotlib below 3.10.
        "compare": ["diffq-fixed==0.2.4", "model-compression-toolkit>=2.6.1,<2.7", *SAMPLES],
        "tensorboard": ["tensorboard"],
        "dev": ["pytest", "hypothesis", "ruff", "mypy", "tensorboard", *SAMPLES],
    },
    entry_points={"console_scripts": ["llt-nncf = llt_nncf.cli.main:main"]},
)
