"""All checks of an exported model, in one report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import Reference
from llt_nncf.artifacts import ValidationReport
from llt_nncf.errors import ValidationFailedError
from llt_nncf.validation.bit_widths import check_bit_widths
from llt_nncf.validation.bit_widths import check_weights
from llt_nncf.validation.compare import accuracy
from llt_nncf.validation.engine_check import ENGINES
from llt_nncf.validation.engine_check import check_engine
from llt_nncf.validation.engine_check import run_batches
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.latency import measure_latency
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from llt_nncf.validation.runners import Runner


def validate(
    reference: Reference | Path | str,
    onnx_path: Path | str,
    *,
    policy: BitPolicy | None = None,
    table: LayerTable | None = None,
    xml_path: Path | str | None = None,
    float_onnx_path: Path | str | None = None,
    min_agreement: float = 0.99,
    latency_rounds: int = 50,
    batch_size: int = 32,
    report_path: Path | str | None = None,
) -> ValidationReport:
    """
    Runs an exported model in ONNX Runtime and OpenVINO, and compares it with PyTorch and with the policy.

    Faults: weights that are not the frozen ones, tensors that exceed their bits, outputs that are missing, NaN or agree
    with PyTorch's top-1 less often than ``min_agreement``, quantizers without counterpart. Layers that an engine runs
    in floats are warnings: they are slow, not wrong.

    :param reference: What PyTorch computed.
    :param onnx_path: Written by ``export_onnx``.
    :param policy: Bits by layer; that of the file's metadata by default. If both are there they must be equal.
    :param table: With it, quantizers that feed no layer are checked too.
    :param xml_path: Written by ``export_openvino``; without it OpenVINO reads the ONNX file.
    :param float_onnx_path: The float model, for its accuracy in the engines, and for latency and its ratio.
    :param min_agreement: Share of equal top-1, 0 to 1.
    :param latency_rounds: 0 leaves latency out.
    :param batch_size: Inputs in one run.
    :param report_path: Where to save the report as JSON.
    :return: The report; ``passed`` is whether there is no fault.
    :raises ArtifactError: If the reference or the ONNX file cannot be read.
    """
    reference = reference if isinstance(reference, Reference) else Reference.load(reference)
    exported = ExportedModel(onnx_path)
    faults = check_weights(exported, reference)
    bit_widths, bit_faults = _check_policy(exported, policy, table)
    sections: dict[str, Any] = {"bit_widths": bit_widths, "warnings": [], "engines": {}}
    sections["pytorch"] = {
        "samples": len(reference.inputs),
        "accuracy": accuracy(reference.logits, reference.labels),
        "float_accuracy": accuracy(reference.float_logits, reference.labels),
    }
    faults += bit_faults
    for engine in ENGINES:
        path = xml_path if xml_path is not None and engine is OpenVinoRunner else onnx_path
        try:
            figures, engine_faults, warnings = check_engine(
                engine, path, exported, reference, min_agreement=min_agreement, batch_size=batch_size
            )
        except ValidationFailedError as error:
            figures, engine_faults, warnings = {}, [str(error)], []
        sections["engines"][engine.engine] = figures
        faults += [f"{engine.engine}: {fault}." for fault in engine_faults]
        sections["warnings"] += [f"{engine.engine} {warning}." for warning in warnings]
    if float_onnx_path is not None:
        sections["float_engines"] = {}
        for engine in ENGINES:
            try:
                logits = run_batches(engine(float_onnx_path), reference.inputs, batch_size)
                sections["float_engines"][engine.engine] = {"accuracy": accuracy(logits, reference.labels)}
            except ValidationFailedError as error:
                faults.append(f"The float model: {error}")
    if latency_rounds > 0:
        try:
            sections["latency"] = _time(reference.inputs[:1], onnx_path, xml_path, float_onnx_path, latency_rounds)
        except ValidationFailedError as error:
            faults.append(f"Latency was not measured: {error}")
    report = ValidationReport(not faults, tuple(faults), sections)
    if report_path is not None:
        report.save(report_path)
    return report


def _check_policy(
    exported: ExportedModel, policy: BitPolicy | None, table: LayerTable | None
) -> tuple[dict[str, Any], list[str]]:
    used = policy or exported.policy
    if used is None:
        return {}, ["There is no policy to compare the bit-widths with: none was given, and the file has none."]
    figures, faults = check_bit_widths(exported, used, table)
    if policy is not None and exported.policy is not None and dict(policy.bits) != dict(exported.policy.bits):
        faults.append("The file was exported with another policy than the one given.")
    return figures, faults


def _time(
    sample: np.ndarray,
    onnx_path: Path | str,
    xml_path: Path | str | None,
    float_onnx_path: Path | str | None,
    rounds: int,
) -> dict[str, Any]:
    """Times one input on one thread; OpenVINO's floats in f32 and at its own default, which may be bf16."""
    paths: dict[str, Sequence[Path | str]] = {"quantized": (onnx_path, xml_path or onnx_path)}
    if float_onnx_path is not None:
        paths["float"] = (float_onnx_path, float_onnx_path)
    runners: dict[str, Runner] = {}
    for kind, (for_onnxruntime, for_openvino) in paths.items():
        runners[f"onnxruntime {kind}"] = OnnxRuntimeRunner(for_onnxruntime)
        for label, precision in (("openvino", "f32"), ("openvino_default_precision", None)):
            runners[f"{label} {kind}"] = OpenVinoRunner(for_openvino, precision=precision, input_shape=sample.shape)
    medians = measure_latency(runners, sample, rounds=rounds)
    result: dict[str, Any] = {"rounds": rounds, "batch_size": 1, "num_threads": 1, "engines": {}}
    for name, median_ms in medians.items():
        engine, kind = name.split(" ")
        result["engines"].setdefault(engine, {})[f"{kind}_ms"] = median_ms
    for row in result["engines"].values():
        if "float_ms" in row:
            row["speed_up"] = row["float_ms"] / row["quantized_ms"]
    return result
