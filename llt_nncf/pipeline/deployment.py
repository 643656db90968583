"""From a fine-tuned model to validated files."""

from pathlib import Path

from torch import Tensor
from torch import nn

from llt_nncf.adapter.controller import LltQuantizationController
from llt_nncf.adapter.post_training import export_post_training
from llt_nncf.artifacts import ValidationReport
from llt_nncf.export import export_float_onnx
from llt_nncf.export import export_openvino
from llt_nncf.export import record_reference
from llt_nncf.plots import plot_bits
from llt_nncf.plots import plot_indicators
from llt_nncf.validation import validate

# Enough for ranges: the file is there to be timed.
_CALIBRATION_SAMPLES = 32


def deploy(
    controller: LltQuantizationController,
    float_model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    out_dir: Path | str,
    *,
    min_agreement: float = 0.99,
    latency_rounds: int = 50,
    post_training: bool = False,
) -> ValidationReport:
    """
    Freezes and exports a fine-tuned model, and compares what PyTorch, ONNX Runtime and OpenVINO make of it.

    Writes ``model.onnx``, ``model.xml`` and ``.bin``, ``float.onnx``, ``policy.json``, ``reference.npz``,
    ``report.json``, ``bits.png`` and, if indicators were trained, ``indicators.png``.

    :param controller: Of the fine-tuned model.
    :param float_model: The model before quantization, for comparison.
    :param inputs: Samples to validate on, shape ``(N, ...)``.
    :param labels: Their classes, shape ``(N,)``.
    :param out_dir: Folder of the files.
    :param min_agreement: Least share of samples on which an engine's top-1 class must be PyTorch's.
    :param latency_rounds: Interleaved timing rounds; 0 leaves timing out.
    :param post_training: Has NNCF quantize the float model on the first samples without training, to ``nncf_ptq.onnx``
        and ``nncf_ptq.xml``, and compares their latency.
    :return: The report, also in ``report.json``; look at ``passed``.
    :raises StageError: If there is no policy yet.
    :raises ExportError: If the model cannot be written exactly.
    """
    out_dir = Path(out_dir)
    policy = controller.require_policy()
    frozen = controller.strip()
    record_reference(frozen, inputs, labels, float_model=float_model).save(out_dir / "reference.npz")
    controller.export_model(str(out_dir / "model.onnx"))
    export_openvino(out_dir / "model.onnx", out_dir / "model.xml")
    export_float_onnx(float_model.cpu(), inputs[:1], out_dir / "float.onnx")
    baselines = [out_dir / "nncf_ptq.onnx", out_dir / "nncf_ptq.xml"] if post_training else []
    for path in baselines:
        export_post_training(out_dir / "float.onnx", inputs[:_CALIBRATION_SAMPLES].cpu().numpy(), path)
    policy.save(out_dir / "policy.json")
    plot_bits(controller.table, policy, out_dir / "bits.png")
    if controller.indicators is not None:
        plot_indicators(controller.indicators, out_dir / "indicators.png")
    return validate(
        out_dir / "reference.npz",
        out_dir / "model.onnx",
        xml_path=out_dir / "model.xml",
        float_onnx_path=out_dir / "float.onnx",
        post_training_paths=baselines,
        policy=policy,
        table=controller.table,
        min_agreement=min_agreement,
        latency_rounds=latency_rounds,
        report_path=out_dir / "report.json",
    )
