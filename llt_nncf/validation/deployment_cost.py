"""What deploying the exported files costs: bytes, load, latency, throughput, and the bits of the activations."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ValidationFailedError
from llt_nncf.validation.benchmark_app import run_benchmark_app
from llt_nncf.validation.cpu_target import describe_target
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.file_size import theoretical_bytes
from llt_nncf.validation.load_cost import measure_files
from llt_nncf.validation.performance import measure_performance


def measure_deployment(
    exported: ExportedModel,
    sample: np.ndarray,
    *,
    policy: BitPolicy | None = None,
    table: LayerTable | None = None,
    xml_path: Path | str | None = None,
    float_onnx_path: Path | str | None = None,
    post_training_paths: Collection[Path | str] = (),
    rounds: int = 50,
    benchmark_app: bool = False,
) -> tuple[dict[str, Any], list[str]]:
    """
    Measures the files of an export.

    :param exported: The ONNX file.
    :param sample: One input, shape ``(1, ...)``.
    :param policy: Bits by layer; without it there is neither a theoretical size nor a target.
    :param table: The layers, for BitOPs.
    :param xml_path: The OpenVINO model.
    :param float_onnx_path: The float model.
    :param post_training_paths: NNCF's post-training int8 of it: an ``.onnx`` for ONNX Runtime, an ``.xml`` for
        OpenVINO.
    :param rounds: Timing rounds; with 0 nothing is loaded or timed.
    :param benchmark_app: Runs OpenVINO's own tool too, for some seconds per model.
    :return: Sections ``files``, ``theoretical_bytes``, ``target``, ``latency``, ``throughput`` and ``benchmark_app`` of
        the report, and warnings.
    :raises ValidationFailedError: If an engine cannot load or run a file.
    """
    given = [exported.path, xml_path, float_onnx_path, *post_training_paths]
    paths = [path for path in given if path is not None]
    sections: dict[str, Any] = {"files": measure_files(paths, with_load=rounds > 0)}
    if policy is not None:
        sections["theoretical_bytes"] = theoretical_bytes(exported, policy)
        timed = sample if rounds > 0 else None
        sections["target"] = describe_target(exported, policy, table, sample=timed, rounds=rounds)
    if rounds > 0:
        sections |= measure_performance(
            sample,
            exported.path,
            xml_path=xml_path,
            float_onnx_path=float_onnx_path,
            post_training_paths=post_training_paths,
            rounds=rounds,
        )
    if not benchmark_app:
        return sections, []
    models = {"quantized": xml_path or exported.path}
    if float_onnx_path is not None:
        models["float"] = float_onnx_path
    for path in post_training_paths:
        if Path(path).suffix == ".xml":
            models["post_training"] = path
    try:
        return {**sections, "benchmark_app": run_benchmark_app(models, sample.shape)}, []
    except ValidationFailedError as error:
        return sections, [f"OpenVINO's own figures are missing: {error}"]
