"""What loading a file into an engine takes, in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llt_nncf.errors import ValidationFailedError
from llt_nncf.validation.file_size import file_bytes

# The engine is imported, and OpenVINO's plugin for the CPU loaded, before the clock starts. Only Linux tells a peak of
# memory since some moment; where it may not be reset, it is that since the start of the process.
_SCRIPT = """
import json, sys, time
engine, path = sys.argv[1:]
if engine == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    load = lambda: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
else:
    import openvino
    core = openvino.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")
    load = lambda: core.compile_model(core.read_model(path), "CPU", {"INFERENCE_NUM_THREADS": 1})

def memory_kib(key):
    try:
        lines = open("/proc/self/status").read().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), None)

try:
    open("/proc/self/clear_refs", "w").write("5")
except OSError:
    pass
before, start = memory_kib("VmRSS:"), time.perf_counter()
model = load()
milliseconds, peak = 1e3 * (time.perf_counter() - start), memory_kib("VmHWM:")
mib = None if before is None or peak is None else max(0, peak - before) / 1024
print(json.dumps({"load_ms": milliseconds, "load_peak_mib": mib}))
"""


def measure_load(engine: str, path: Path | str) -> dict[str, float | None]:
    """
    Loads a file once, in a fresh process and with one thread.

    :param engine: ``onnxruntime`` or ``openvino``.
    :param path: An ``.onnx``, for OpenVINO also an ``.xml``.
    :return: ``load_ms``, and ``load_peak_mib``: how far the memory of the process rose above what it was with the
        engine alone; ``None`` on systems other than Linux.
    :raises ValidationFailedError: If the engine cannot load the file.
    """
    command = [sys.executable, "-c", _SCRIPT, engine, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{engine} cannot load {path}: {done.stderr.strip().splitlines()[-1:]}"
        raise ValidationFailedError(msg)
    return json.loads(done.stdout.splitlines()[-1])


def measure_files(paths: Sequence[Path | str], *, with_load: bool = True) -> dict[str, dict[str, Any]]:
    """
    Measures each file, an ``.onnx`` in both engines.

    :param paths: ``.onnx`` and ``.xml`` files.
    :param with_load: Whether to load them too.
    :return: File name to ``bytes``, and engine to what ``measure_load`` returns.
    :raises ValidationFailedError: If an engine cannot load a file.
    """
    result: dict[str, dict[str, Any]] = {}
    for path in map(Path, paths):
        engines = ("openvino",) if path.suffix == ".xml" else ("onnxruntime", "openvino")
        loads = {engine: measure_load(engine, path) for engine in engines if with_load}
        result[path.name] = {"bytes": file_bytes(path), **loads}
    return result
