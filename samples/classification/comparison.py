"""The comparison that the sample ends with: the uniform policy in it, its figures, and their table."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import ValidationReport
from llt_nncf.cost import PolicyCost


def uniform_policy(table: LayerTable, budget: Mapping[str, Any], found: BitPolicy) -> BitPolicy | None:
    """
    Returns the uniform policy to compare with: the one that the budget names, or the dearest that costs no more BitOPs.

    Of those that cost the same it is the one whose weights and activations have the least different bits.

    :param table: The layers.
    :param budget: The config's.
    :param found: The policy with the learned bits.
    :return: ``None`` if no pair of bits that all layers may have costs so little.
    """
    pairs = product(_common(row.weight_bits for row in table.layers), _common(r.activation_bits for r in table.layers))
    policies = {(w, a): BitPolicy.uniform(table, weight_bits=w, activation_bits=a) for w, a in pairs}
    named = tuple(budget.get("bitops_as", {}).get(key) for key in ("weight_bits", "activation_bits"))
    if named in policies:
        return policies[named]
    bitops = {pair: PolicyCost.from_policy(policy, table).bitops for pair, policy in policies.items()}
    fitting = [pair for pair in policies if bitops[pair] <= PolicyCost.from_policy(found, table).bitops]
    best = max(fitting, key=lambda pair: (bitops[pair], -abs(pair[0] - pair[1]), pair[1]), default=None)
    return None if best is None else policies[best]


def _common(candidates: Iterable[Sequence[int]]) -> set[int]:
    """Bits that everything that is searched may have; if nothing is, any do for it."""
    searched = [set(bits) for bits in candidates if len(bits) > 1]
    return set.intersection(*searched) if searched else {8}


def float_row(report: ValidationReport, table: LayerTable, out: Path) -> dict[str, Any]:
    """Figures of the float model, of ``float.onnx`` in ``out``."""
    weights = sum(layer.weight_count for layer in table.layers)
    latency = report.sections.get("latency", {}).get("engines", {})
    return {
        "pytorch_top1": 100 * report.sections["pytorch"]["float_accuracy"],
        "gbitops": sum(layer.macs for layer in table.layers) * 32 * 32 / 1e9,
        "weight_kib": weights * 4 / 1024,
        **_file_size(out / "float.onnx", report),
        **{f"{engine}_top1": 100 * row["accuracy"] for engine, row in report.sections["float_engines"].items()},
        **{f"{engine}_ms": row["float_ms"] for engine, row in latency.items()},
    }


def quantized_row(ctrl: Any, report: ValidationReport, out: Path) -> dict[str, Any]:
    """Figures of a compressed model, of the files in ``out``."""
    cost = PolicyCost.from_policy(ctrl.policy, ctrl.table)
    row = {
        "passed": report.passed,
        "pytorch_top1": 100 * report.sections["pytorch"]["accuracy"],
        "gbitops": cost.gbitops,
        "weight_kib": cost.weight_mib * 1024,
        **_file_size(out / "model.onnx", report),
    }
    latency = report.sections.get("latency", {}).get("engines", {})
    for engine, figures in report.sections["engines"].items():
        # An engine that could not run the file has no figures.
        for name, key in (("top1", "accuracy"), ("agreement", "agreement")):
            if key in figures:
                row[f"{engine}_{name}"] = 100 * figures[key]
        if engine in latency:
            row[f"{engine}_ms"] = latency[engine]["quantized_ms"]
    return row


def _file_size(path: Path, report: ValidationReport) -> dict[str, float]:
    """The size of a file that passed; a validation that fails leaves none, or that of an earlier run."""
    return {"file_kib": path.stat().st_size / 1024} if report.passed else {}


def print_rows(rows: dict[str, dict[str, Any]], console: Console) -> None:
    """Prints the final table, a column per model so that it fits into 80 columns."""
    title = "Float, uniform at the same BitOPs, and learned bits" if "uniform" in rows else "Float and learned bits"
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in ("", *rows):
        table.add_column(heading, justify="right" if heading else "left")
    lines = [
        ("top-1 %, PyTorch", "pytorch_top1", "{:.2f}"),
        ("top-1 %, ONNX Runtime", "onnxruntime_top1", "{:.2f}"),
        ("top-1 %, OpenVINO", "openvino_top1", "{:.2f}"),
        ("agreement %, ONNX Runtime", "onnxruntime_agreement", "{:.2f}"),
        ("agreement %, OpenVINO", "openvino_agreement", "{:.2f}"),
        ("BitOPs, 1e9", "gbitops", "{:.4g}"),
        ("weights at their bits, KiB", "weight_kib", "{:.1f}"),
        ("ONNX file, KiB", "file_kib", "{:.1f}"),
        ("latency ms, ONNX Runtime", "onnxruntime_ms", "{:.3f}"),
        ("latency ms, OpenVINO", "openvino_ms", "{:.3f}"),
    ]
    for label, key, form in lines:
        table.add_row(label, *(form.format(row[key]) if key in row else "" for row in rows.values()))
    console.print(table)
