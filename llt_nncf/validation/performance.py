"""Latency and throughput of the exported files beside those of the float model and of NNCF's post-training int8."""

import os
from collections.abc import Collection
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llt_nncf.validation.latency import ratio_figures
from llt_nncf.validation.latency import time_in_turns
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from llt_nncf.validation.runners import Runner

# Inferences of each stream in one timed call of the throughput mode, of which there are fewer rounds.
_INFERENCES = 4
_LATENCY_ROUNDS_PER_ROUND = 5

Models = Mapping[str, Path | str]


def measure_performance(
    sample: np.ndarray,
    onnx_path: Path | str,
    *,
    xml_path: Path | str | None = None,
    float_onnx_path: Path | str | None = None,
    post_training_paths: Collection[Path | str] = (),
    rounds: int = 50,
) -> dict[str, Any]:
    """
    Times all models in turns, in both engines; OpenVINO in f32 and at its own default precision, which may be bf16.

    Latency is that of one stream with one thread. For throughput OpenVINO gets ``PERFORMANCE_HINT=THROUGHPUT`` and a
    queue of asynchronous requests, and chooses streams and threads itself. ONNX Runtime has no such mode: one session
    of one thread per inference is called from as many threads as there are cores, as a server does it.

    Speed-ups are medians and quartiles of the ratio within each round.

    :param sample: One input, shape ``(1, ...)``.
    :param onnx_path: Written by ``export_onnx``.
    :param xml_path: What OpenVINO runs; the ONNX file without it.
    :param float_onnx_path: The float model.
    :param post_training_paths: The float model as NNCF quantizes it after training: an ``.onnx`` for ONNX Runtime, an
        ``.xml`` for OpenVINO.
    :param rounds: At least 1.
    :return: Sections ``latency`` and ``throughput`` of the report.
    :raises ValidationFailedError: If an engine cannot load or run a model.
    """
    for_onnxruntime: dict[str, Path | str] = {"quantized": onnx_path}
    for_openvino: dict[str, Path | str] = {"quantized": xml_path or onnx_path}
    if float_onnx_path is not None:
        for_onnxruntime["float"] = for_openvino["float"] = float_onnx_path
    for path in post_training_paths:
        (for_openvino if Path(path).suffix == ".xml" else for_onnxruntime)["post_training"] = path
    paths = {
        "onnxruntime": for_onnxruntime,
        "openvino": for_openvino,
        "openvino_default_precision": for_openvino,
    }
    return {
        "latency": _measure(paths, sample, rounds, has_streams=False),
        "throughput": _measure(paths, sample, max(1, rounds // _LATENCY_ROUNDS_PER_ROUND), has_streams=True),
    }


def _measure(paths: Mapping[str, Models], sample: np.ndarray, rounds: int, *, has_streams: bool) -> dict[str, Any]:
    runners = {
        (engine, kind): _load(engine, path, sample, has_streams)
        for engine, models in paths.items()
        for kind, path in models.items()
    }
    settings = {name: runner.settings() for name, runner in runners.items()}
    count = _INFERENCES if has_streams else 1
    times = time_in_turns({name: runner.prepared(sample, count) for name, runner in runners.items()}, rounds=rounds)
    engines = {}
    for engine, models in paths.items():
        row = {kind: times[engine, kind] / (count * settings[engine, kind]["num_streams"]) for kind in models}
        figures: dict[str, Any] = {}
        for kind, values in row.items():
            median = float(np.median(values))
            figures |= {f"{kind}_per_s": 1e3 / median} if has_streams else {f"{kind}_ms": median}
        for key, baseline in (("speed_up", "float"), ("speed_up_over_post_training", "post_training")):
            if baseline in row:
                figures |= ratio_figures(key, row[baseline], row["quantized"])
        engines[engine] = {**figures, **settings[engine, "quantized"]}
    return {"rounds": rounds, "batch_size": 1, "engines": engines}


def _load(engine: str, path: Path | str, sample: np.ndarray, has_streams: bool) -> Runner:
    if engine == "onnxruntime":
        return OnnxRuntimeRunner(path, num_streams=num_cores() if has_streams else 1)
    return OpenVinoRunner(
        path,
        num_threads=None if has_streams else 1,
        hint="THROUGHPUT" if has_streams else "LATENCY",
        precision="f32" if engine == "openvino" else None,
        input_shape=sample.shape,
    )


def num_cores() -> int:
    """Returns the number of cores that this process may use."""
    # Only Linux knows what a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
