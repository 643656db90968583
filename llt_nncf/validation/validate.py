"""All checks of an exported model, in one report."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import Reference
from llt_nncf.artifacts import ValidationReport
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import ValidationFailedError
from llt_nncf.errors import ValidationOptionError
from llt_nncf.validation.accuracy_function import AccuracyFunction
from llt_nncf.validation.bit_widths import check_bit_widths
from llt_nncf.validation.bit_widths import check_weights
from llt_nncf.validation.compare import accuracy
from llt_nncf.validation.data_check import check_data
from llt_nncf.validation.deployment_cost import measure_deployment
from llt_nncf.validation.engine_check import ENGINES
from llt_nncf.validation.engine_check import check_engine
from llt_nncf.validation.engine_check import run_batches
from llt_nncf.validation.exported_ir import ExportedIr
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.layer_by_layer import Engine
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from llt_nncf.validation.sample_data import SampleData


def validate(
    reference: Reference | Path | str,
    onnx_path: Path | str | None,
    *,
    policy: BitPolicy | None = None,
    table: LayerTable | None = None,
    xml_path: Path | str | None = None,
    float_onnx_path: Path | str | None = None,
    post_training_paths: Collection[Path | str] = (),
    data: Path | str | None = None,
    accuracy_function: AccuracyFunction | None = None,
    min_agreement: float = 0.99,
    require_int8: bool = False,
    latency_rounds: int = 50,
    benchmark_app: bool = False,
    batch_size: int = 32,
) -> ValidationReport:
    """
    Runs an exported model in ONNX Runtime and OpenVINO, and compares it with PyTorch and with the policy.

    Faults: weights that are not the frozen ones, tensors that exceed their bits, a layer that computes other codes than
    PyTorch's when it is fed PyTorch's, outputs that are missing, NaN or agree with PyTorch's top-1 less often than
    ``min_agreement``, quantizers without counterpart. Layers that an engine runs in floats are warnings: they are slow,
    not wrong.

    :param reference: What PyTorch computed.
    :param onnx_path: Written by ``export_onnx``; ``None`` validates ``xml_path`` alone, without latency.
    :param policy: Bits by layer; that of the file's metadata by default. If both are there they must be equal.
    :param table: With it, quantizers that feed no layer are checked too.
    :param xml_path: Written by ``export_openvino``; without it OpenVINO reads the ONNX file.
    :param float_onnx_path: The float model, for its accuracy in the engines, and for latency and its ratio.
    :param post_training_paths: NNCF's post-training int8 of the float model, to compare latency with: an ``.onnx`` for
        ONNX Runtime, an ``.xml`` for OpenVINO.
    :param data: Somebody's own samples, for the engines' accuracy on them and their agreement: see ``SampleData``.
    :param accuracy_function: What accuracy is on ``data``: takes the outputs for all samples and their labels, and
        returns one number, or several by name. By default the share of samples with the largest output at the label.
    :param min_agreement: Share of equal top-1, 0 to 1.
    :param require_int8: Makes it a fault if an engine runs a layer in floats.
    :param latency_rounds: 0 leaves out everything that is timed.
    :param benchmark_app: Runs OpenVINO's own ``benchmark_app`` too.
    :param batch_size: Inputs in one run.
    :return: The report; ``passed`` is whether there is no fault.
    :raises ArtifactError: If a file cannot be read.
    :raises ValidationOptionError: If a number is out of range.
    """
    check_options(min_agreement, latency_rounds)
    reference = reference if isinstance(reference, Reference) else Reference.load(reference)
    samples = None if data is None else SampleData(data)
    files = _read_files(onnx_path, xml_path)
    faults = [fault for file in dict.fromkeys(files.values()) for fault in check_weights(file, reference)]
    sections: dict[str, Any] = {"bit_widths": {}, "warnings": [], "engines": {}}
    for file in dict.fromkeys(files.values()):
        bit_widths, bit_faults = _check_policy(file, policy, table)
        sections["bit_widths"] = sections["bit_widths"] or bit_widths
        faults += [fault for fault in bit_faults if fault not in faults]
    sections["pytorch"] = {
        "samples": len(reference.inputs),
        "accuracy": accuracy(reference.logits, reference.labels),
        "float_accuracy": accuracy(reference.float_logits, reference.labels),
    }
    for engine, exported in files.items():
        try:
            figures, engine_faults, warnings = check_engine(
                engine, exported, reference, min_agreement=min_agreement, batch_size=batch_size
            )
        except ValidationFailedError as error:
            figures, engine_faults, warnings = {}, [str(error)], []
        sections["engines"][engine.engine] = figures
        faults += [f"{engine.engine}: {fault}." for fault in engine_faults]
        sections["warnings"] += [f"{engine.engine} {warning}." for warning in warnings]
        in_float = [name for name, row in figures.get("kernels", {}).items() if row["is_integer"] is not True]
        if in_float:
            (faults if require_int8 else sections["warnings"]).append(
                f"{engine.engine} does not run in integers: {', '.join(in_float)}."
            )
    if samples is not None:
        shape = reference.inputs.shape[1:]
        try:
            runners = {engine.engine: engine(exported.path) for engine, exported in files.items()}
            sections["data"] = check_data(
                runners, samples, accuracy_function, sample_shape=shape, batch_size=batch_size
            )
        except ValidationFailedError as error:
            faults.append(f"On {data}: {error}")
    if float_onnx_path is not None:
        sections["float_engines"], float_faults = _check_float_model(float_onnx_path, reference, batch_size)
        faults += float_faults
    onnx_file = files.get(OnnxRuntimeRunner)
    if isinstance(onnx_file, ExportedModel):
        try:
            costs, warnings = measure_deployment(
                onnx_file,
                reference.inputs[:1],
                policy=policy or onnx_file.policy,
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
    return ValidationReport(not faults, tuple(faults), sections)


def check_options(min_agreement: float, latency_rounds: int) -> None:
    """
    Checks two options of ``validate``, for those who have work to do before they call it.

    :raises ValidationOptionError: If one is out of range.
    """
    if not 0 <= min_agreement <= 1:
        msg = f"min_agreement={min_agreement}: must be a share from 0 to 1, for example 0.99."
        raise ValidationOptionError(msg)
    if latency_rounds < 0:
        msg = f"latency_rounds={latency_rounds}: must be 0, for no timing, or more."
        raise ValidationOptionError(msg)


def _read_files(onnx_path: Path | str | None, xml_path: Path | str | None) -> dict[Engine, ExportedModel | ExportedIr]:
    """The file that each engine runs."""
    files: dict[Engine, ExportedModel | ExportedIr] = {}
    if onnx_path is not None:
        files = dict.fromkeys(ENGINES, ExportedModel(onnx_path))
    if xml_path is not None:
        files[OpenVinoRunner] = ExportedIr(xml_path)
    if not files:
        msg = "Nothing to validate: give an ONNX file, an .xml file, or both."
        raise ArtifactError(msg)
    return files


def _check_policy(
    exported: ExportedModel | ExportedIr, policy: BitPolicy | None, table: LayerTable | None
) -> tuple[dict[str, Any], list[str]]:
    used = policy or exported.policy
    if used is None:
        return {}, ["There is no policy to compare the bit-widths with: none was given, and the file has none."]
    figures, faults = check_bit_widths(exported, used, table)
    if policy is not None and exported.policy is not None and dict(policy.bits) != dict(exported.policy.bits):
        faults.append("The file was exported with another policy than the one given.")
    return figures, faults


def _check_float_model(
    path: Path | str, reference: Reference, batch_size: int
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    figures, faults = {}, []
    for engine in ENGINES:
        try:
            logits = run_batches(engine(path), reference.inputs, batch_size)
            if logits.shape != reference.logits.shape:
                faults.append(
                    f"The float model gives outputs of shape {logits.shape} in {engine.engine}, the exported one gave "
                    f"{reference.logits.shape}: it is of another model, or of an export of its own."
                )
                continue
            figures[engine.engine] = {"accuracy": accuracy(logits, reference.labels)}
        except ValidationFailedError as error:
            faults.append(f"The float model: {error}")
    return figures, faults
