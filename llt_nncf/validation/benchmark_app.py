"""OpenVINO's own benchmark tool, run on the same files."""

import re
import subprocess
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llt_nncf.errors import ValidationFailedError

_HINTS = ("latency", "throughput")
_FIGURES = {
    "median_ms": r"Median:\s+([\d.]+) (ms|us)",
    "per_s": r"Throughput:\s+([\d.]+) FPS",
    "num_streams": r"NUM_STREAMS: (\d+)",
    "num_threads": r"INFERENCE_NUM_THREADS: (\d+)",
    "inference_precision": r"INFERENCE_PRECISION_HINT: <Type: '(\w+)'>",
}


def run_benchmark_app(
    models: Mapping[str, Path | str], input_shape: Sequence[int], *, seconds: int = 3
) -> dict[str, dict[str, dict[str, Any]]]:
    """
    Runs ``benchmark_app`` on every model with the hints for latency and for throughput.

    The tool uses all cores with either hint, and OpenVINO's default precision.

    :param models: Name to ``.onnx`` or ``.xml``.
    :param input_shape: Of one input.
    :param seconds: Time of one measurement; there are two for each model.
    :return: Name to hint to median in ms, inferences per second, streams, threads and precision.
    :raises ValidationFailedError: If the tool is missing, fails, or prints no figures.
    """
    return {
        name: {hint: _parsed(_output(path, input_shape, hint, seconds)) for hint in _HINTS}
        for name, path in models.items()
    }


def _output(path: Path | str, input_shape: Sequence[int], hint: str, seconds: int) -> str:
    shape = f"[{','.join(map(str, input_shape))}]"
    # Inputs in f32: the tool would make whatever looks like an image uint8, and convert it in the model.
    options = ["-m", str(path), "-d", "CPU", "-hint", hint, "-t", str(seconds), "-shape", shape, "-ip", "f32"]
    command = [sys.executable, "-c", "from openvino.tools.benchmark.main import main; main()", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 10 * seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"benchmark_app cannot be run: {error}"
        raise ValidationFailedError(msg) from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        msg = f"benchmark_app failed on {path}: {lines[-1]}"
        raise ValidationFailedError(msg)
    return done.stdout


def _parsed(output: str) -> dict[str, Any]:
    """
    Takes the figures from what the tool prints.

    >>> lines = ["NUM_STREAMS: 1", "INFERENCE_NUM_THREADS: 2", "INFERENCE_PRECISION_HINT: <Type: 'float32'>"]
    >>> _parsed("\\n".join([*lines, "Median:        20.5 us", "Throughput:   14327.85 FPS"]))["median_ms"]
    0.0205
    """
    found = {key: re.search(pattern, output) for key, pattern in _FIGURES.items()}
    missing = [key for key, match in found.items() if match is None]
    if missing:
        msg = f"benchmark_app printed no {', '.join(missing)}; it may be of a version that is not known here."
        raise ValidationFailedError(msg)
    texts = {key: match for key, match in found.items() if match is not None}
    median = float(texts["median_ms"][1]) / (1e3 if texts["median_ms"][2] == "us" else 1)
    return {
        "median_ms": median,
        "per_s": float(texts["per_s"][1]),
        "num_streams": int(texts["num_streams"][1]),
        "num_threads": int(texts["num_threads"][1]),
        "inference_precision": texts["inference_precision"][1],
    }
