"""From a fine-tuned model to validated files."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from torch import nn

from llt_nncf.adapter.composite import LltCompositeController
from llt_nncf.adapter.controller import LltQuantizationController
from llt_nncf.adapter.post_training import export_post_training
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import ValidationReport
from llt_nncf.errors import ExportError
from llt_nncf.export import export_float_onnx
from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import record_reference
from llt_nncf.pipeline.staging import REPORT
from llt_nncf.pipeline.staging import publish
from llt_nncf.pipeline.staging import staging_folder
from llt_nncf.plots import plot_bits
from llt_nncf.plots import plot_indicators
from llt_nncf.quantizers import SwitchableQuantizer
from llt_nncf.validation import check_options
from llt_nncf.validation import validate

# Enough for ranges: the file is there to be timed.
_CALIBRATION_SAMPLES = 32


def deploy(
    controller: LltQuantizationController | LltCompositeController,
    float_model: nn.Module,
    inputs: Tensor,
    labels: Tensor | None,
    out_dir: Path | str,
    *,
    packed: bool = True,
    opset: int | None = None,
    min_agreement: float = 0.99,
    latency_rounds: int = 50,
    post_training: bool = False,
    remarks: Sequence[str] = (),
) -> ValidationReport:
    """
    Freezes and exports a fine-tuned model, and compares what PyTorch, ONNX Runtime and OpenVINO make of it.

    Files that pass are ``model.onnx``, ``model.xml`` and ``.bin``, ``float.onnx``, ``policy.json``, ``layers.json``,
    ``reference.npz``, ``bits.png``, if indicators were trained ``indicators.png``, and ``report.json``. They get their
    names only when the validation has passed; if it fails, or anything raises, none is left, and what an earlier
    export has left stays as it was.

    :param controller: Of the fine-tuned model.
    :param float_model: The model before quantization, for comparison.
    :param inputs: Samples to validate on, shape ``(N, ...)``.
    :param labels: Their classes, shape ``(N,)``, if they are known.
    :param out_dir: Folder of the files.
    :param packed: Stores weights at their bits instead of a byte each.
    :param opset: ONNX opset; by default the lowest that does.
    :param min_agreement: Least share of samples on which an engine's top-1 class must be PyTorch's.
    :param latency_rounds: Interleaved timing rounds; 0 leaves timing out.
    :param post_training: Has NNCF quantize the float model on the first samples without training, to ``nncf_ptq.onnx``
        and ``nncf_ptq.xml``, and compares their latency.
    :param remarks: Kept among the report's warnings, for example what the samples are.
    :return: The report; look at ``passed``.
    :raises StageError: If there is no policy yet.
    :raises ValidationOptionError: If ``min_agreement`` or ``latency_rounds`` is out of range.
    :raises ExportError: If the model cannot be written exactly, or has more than one output, or ``float_model`` is the
        compressed one.
    """
    check_options(min_agreement, latency_rounds)
    if any(isinstance(module, SwitchableQuantizer) for module in float_model.modules()):
        msg = (
            "float_model is the compressed model: create_compressed_model works in place. Give a copy from before, "
            "copy.deepcopy(model)."
        )
        raise ExportError(msg)
    out_dir = Path(out_dir)
    policy = controller.require_policy()
    frozen = controller.strip().cpu()
    with staging_folder(out_dir) as folder:
        record_reference(frozen, inputs, labels, float_model=float_model).save(folder / "reference.npz")
        _export(frozen, float_model, inputs[:1].cpu(), folder, policy=policy, packed=packed, opset=opset)
        baselines = [folder / "nncf_ptq.onnx", folder / "nncf_ptq.xml"] if post_training else []
        for path in baselines:
            export_post_training(folder / "float.onnx", inputs[:_CALIBRATION_SAMPLES].cpu().numpy(), path)
        policy.save(folder / "policy.json")
        controller.table.save(folder / "layers.json")
        plot_bits(controller.table, policy, folder / "bits.png")
        if controller.indicators is not None and not controller.table.is_fixed:
            plot_indicators(controller.indicators, folder / "indicators.png")
        report = validate(
            folder / "reference.npz",
            folder / "model.onnx",
            xml_path=folder / "model.xml",
            float_onnx_path=folder / "float.onnx",
            post_training_paths=baselines,
            policy=policy,
            table=controller.table,
            min_agreement=min_agreement,
            latency_rounds=latency_rounds,
        )
        warnings = [*report.sections.get("warnings", ()), *remarks]
        report = replace(report, sections={**report.sections, "warnings": warnings})
        report.save(folder / REPORT)
        if report.passed:
            publish(folder, out_dir)
    return report


def _export(
    frozen: nn.Module,
    float_model: nn.Module,
    sample: Tensor,
    folder: Path,
    *,
    policy: BitPolicy,
    packed: bool,
    opset: int | None,
) -> None:
    export_onnx(frozen, sample, folder / "model.onnx", policy=policy, packed=packed, opset=opset)
    export_openvino(folder / "model.onnx", folder / "model.xml", packed=packed)
    # A copy: the caller's model stays where it is.
    export_float_onnx(copy.deepcopy(float_model).cpu(), sample, folder / "float.onnx", opset=opset)
