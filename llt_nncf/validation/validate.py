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
from llt_nncf.validation.compare import compare_codes
from llt_nncf.validation.compare import compare_logits
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.latency import measure_latency
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from llt_nncf.validation.runners import Runner

_ENGINES: tuple[type[OnnxRuntimeRunner] | type[OpenVinoRunner], ...] = (OnnxRuntimeRunner, OpenVinoRunner)


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
    for engine in _ENGINES:
        path = xml_path if xml_path is not None and engine is OpenVinoRunner else onnx_path
        try:
            figures, engine_faults = _check_engine(engine, path, exported, reference, min_agreement, batch_size)
        except ValidationFailedError as error:
            figures, engine_faults = {}, [str(error)]
        sections["engines"][engine.engine] = figures
        faults += [f"{engine.engine}: {fault}." for fault in engine_faults]
        codes = figures.get("codes", {"first_difference": ""})
        if codes["first_difference"] is None and figures.get("max_difference_steps_of_taps", 0) >= 1:
            text = "computes PyTorch's codes when it is asked for them, but other outputs when it is not"
            sections["warnings"].append(f"{engine.engine} {text}: it fuses the layers differently then.")
        in_float = [name for name, row in figures.get("kernels", {}).items() if row["is_integer"] is not True]
        if in_float:
            sections["warnings"].append(f"{engine.engine} does not run in integers: {', '.join(in_float)}.")
    if float_onnx_path is not None:
        sections["float_engines"] = {}
        for engine in _ENGINES:
            try:
                logits = _run(engine(float_onnx_path), reference.inputs, batch_size)
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


def _check_engine(
    engine: type[OnnxRuntimeRunner] | type[OpenVinoRunner],
    path: Path | str,
    exported: ExportedModel,
    reference: Reference,
    min_agreement: float,
    batch_size: int,
) -> tuple[dict[str, Any], list[str]]:
    runner: Runner = engine(path)
    logits = _run(runner, reference.inputs, batch_size)
    figures, faults = compare_logits(logits, reference, exported.output_step_size)
    agreement = figures.get("agreement")
    if agreement is not None and agreement < min_agreement:
        faults.append(
            f"top-1 agrees with PyTorch for {agreement:.2%} of the samples; {min_agreement:.2%} are asked for"
        )
    kernels = runner.kernels(list(exported.weights))
    figures["kernels"] = {
        name: {"kernel": kernels.get(name, ("not found", None))[0], "is_integer": kernels.get(name, ("", None))[1]}
        for name in exported.weights
    }
    if reference.taps:
        figures["codes"], code_faults = compare_codes(_codes(engine, path, exported, reference), reference)
        faults += code_faults
    return figures, faults


def _run(runner: Runner, inputs: np.ndarray, batch_size: int) -> np.ndarray:
    starts = range(0, len(inputs), batch_size)
    return np.concatenate([runner.run(inputs[start : start + batch_size]) for start in starts])


def _codes(
    engine: type[OnnxRuntimeRunner] | type[OpenVinoRunner],
    path: Path | str,
    exported: ExportedModel,
    reference: Reference,
) -> dict[str, np.ndarray]:
    """Runs a copy of the engine's file that shows its codes; an engine may fuse it a little differently for that."""
    outputs = exported.tap_outputs()
    names = list(outputs.values())
    probe: Runner = (
        OpenVinoRunner(path, extra_outputs=names)
        if engine is OpenVinoRunner
        else OnnxRuntimeRunner(exported.with_taps())
    )
    results = probe.run_outputs(reference.inputs[: reference.num_tap_samples], names)
    return dict(zip(outputs, results, strict=True))


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
