"""All checks of an exported model, in one report."""

from collections.abc import Collection
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
from llt_nncf.validation.deployment_cost import measure_deployment
from llt_nncf.validation.executed_graph import kernels_of
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.fall_backs import count_nodes
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
    post_training_paths: Collection[Path | str] = (),
    min_agreement: float = 0.99,
    require_int8: bool = False,
    latency_rounds: int = 50,
    benchmark_app: bool = False,
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
    :param post_training_paths: NNCF's post-training int8 of the float model, to compare latency with: an ``.onnx`` for
        ONNX Runtime, an ``.xml`` for OpenVINO.
    :param min_agreement: Share of equal top-1, 0 to 1.
    :param require_int8: Makes it a fault if an engine runs a layer in floats.
    :param latency_rounds: 0 leaves out everything that is timed.
    :param benchmark_app: Runs OpenVINO's own ``benchmark_app`` too.
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
            (faults if require_int8 else sections["warnings"]).append(
                f"{engine.engine} does not run in integers: {', '.join(in_float)}."
            )
    if float_onnx_path is not None:
        sections["float_engines"] = {}
        for engine in _ENGINES:
            try:
                logits = _run(engine(float_onnx_path), reference.inputs, batch_size)
                sections["float_engines"][engine.engine] = {"accuracy": accuracy(logits, reference.labels)}
            except ValidationFailedError as error:
                faults.append(f"The float model: {error}")
    try:
        costs, warnings = measure_deployment(
            exported,
            reference.inputs[:1],
            policy=policy or exported.policy,
            table=table,
            xml_path=xml_path,
            float_onnx_path=float_onnx_path,
            post_training_paths=post_training_paths,
            rounds=latency_rounds,
            benchmark_app=benchmark_app,
        )
        sections |= costs
        sections["warnings"] += warnings
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
    nodes = runner.nodes()
    figures["nodes"] = count_nodes(exported.neighbours, nodes)
    kernels = kernels_of(exported.weights, nodes)
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
