"""Where and how the results in a folder were made, as far as their figures depend on it."""

import argparse
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import save_json

_SCHEMA = "llt_nncf.comparison_made_with/1"
_PACKAGES = ("torch", "nncf", "onnx", "openvino", "onnxruntime", "ortools", "diffq-fixed", "model-compression-toolkit")


def made_with(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """
    Returns ``command``, ``machine`` and ``versions`` of the last run that made results, which may be this one.

    :param options: Of the command line.
    :param out: The folder of the results; what is returned is kept there.
    """
    path = out / "made_with.json"
    if not (options.report_only and path.exists()):
        content = {"command": command(options), "machine": machine(options.device), "versions": versions()}
        save_json(path, _SCHEMA, content)
    return load_json(path, _SCHEMA)


def command(options: argparse.Namespace) -> str:
    """Returns the command that makes all cells, for those who want to make them again."""
    parts = ["python samples/compare/main.py", f"--config {options.config}"]
    parts += ["--data DIR"] if options.data else []
    parts += [f"--weights {options.weights.name}"] if options.weights else []
    parts += [f"--device {options.device}"] if options.device != "cpu" else []
    parts += [f"--train-samples {options.train_samples}"] if options.train_samples else []
    parts += [f"--test-samples {options.test_samples}"] if options.test_samples else []
    return " ".join(parts)


def machine(device: str) -> dict[str, Any]:
    """
    Returns what figures of cost depend on.

    :param device: Where models were trained, ``cpu`` or one of PyTorch's other devices.
    """
    info = Path("/proc/cpuinfo")  # Linux; elsewhere the platform knows
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    name = device if device == "cpu" else torch.cuda.get_device_name(device)
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.system(), "device": name}


def versions() -> dict[str, str]:
    """Returns the versions of the packages that take part; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
