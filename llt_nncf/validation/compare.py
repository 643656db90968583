"""What an engine computed against what PyTorch computed: logits, and integer codes layer by layer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from llt_nncf.artifacts import Reference


def compare_logits(
    logits: np.ndarray, reference: Reference, output_step_size: np.ndarray | None
) -> tuple[dict[str, Any], list[str]]:
    """
    Compares the outputs of an engine with PyTorch's.

    :param logits: Shape of ``reference.logits``; classes are dimension 1.
    :param reference: What PyTorch computed.
    :param output_step_size: Real units per step of the last layer's accumulator, shape ``()`` or ``(C,)``.
    :return: The figures, and a sentence per fault.
    """
    wanted = reference.logits
    if logits.shape != wanted.shape:
        return {}, [f"outputs of shape {logits.shape} instead of {wanted.shape}"]
    if not np.isfinite(logits).all():
        return {}, [f"{int((~np.isfinite(logits)).sum())} of {logits.size} outputs are NaN or infinite"]
    difference = np.abs(logits.astype(np.float64) - wanted.astype(np.float64))
    figures: dict[str, Any] = {
        "agreement": accuracy(logits, top_1(wanted)),
        "max_abs_difference": float(difference.max()),
        "mean_abs_difference": float(difference.mean()),
    }
    if output_step_size is not None:
        shape = [1, -1] + [1] * (logits.ndim - 2)
        with np.errstate(all="ignore"):
            steps = difference / np.asarray(output_step_size, np.float64).reshape(shape if logits.ndim > 1 else -1)
        if not np.isfinite(steps).all():
            return figures, ["the step sizes of the last layer are 0 or no numbers"]
        figures["max_difference_steps"] = float(steps.max())
        figures["mean_difference_steps"] = float(steps.mean())
        if reference.taps:
            figures["max_difference_steps_of_taps"] = float(steps[: reference.num_tap_samples].max())
    if reference.labels is not None:
        figures["accuracy"] = accuracy(logits, reference.labels)
    return figures, []


def compare_codes(codes: Mapping[str, np.ndarray], reference: Reference) -> tuple[dict[str, Any], list[str]]:
    """
    Compares the integer codes of every quantizer with PyTorch's.

    :param codes: Quantizer to uint8 codes for the reference's tap samples. The exporter may have moved a quantizer past
        a reshape, so only the order of a sample's elements counts.
    :param reference: What PyTorch computed.
    :return: Rows per quantizer in the order of the forward pass with the first that differs, and faults.
    """
    rows: dict[str, Any] = {}
    faults = [f"quantizer {name!r} is not in the reference" for name in codes if name not in reference.taps]
    for name, wanted in reference.taps.items():
        found = codes.get(name)
        if found is None:
            faults.append(f"quantizer {name!r} has no codes in the file")
        elif found.size != wanted.size:
            faults.append(f"quantizer {name!r} gives codes of shape {found.shape} instead of {wanted.shape}")
        else:
            difference = np.abs(found.reshape(len(wanted), -1).astype(np.int16) - wanted.reshape(len(wanted), -1))
            share = float((difference > 0).mean())
            rows[name] = {"share_different": share, "max_difference_steps": int(difference.max(initial=0))}
    first = next((name for name, row in rows.items() if row["share_different"] > 0), None)
    return {"first_difference": first, "quantizers": rows}, faults


def top_1(logits: np.ndarray) -> np.ndarray:
    """Returns the index of the largest logit along dimension 1, shape ``(N, ...)``."""
    return logits.reshape(len(logits), -1).argmax(1) if logits.ndim <= 2 else logits.argmax(1)


def accuracy(logits: np.ndarray | None, labels: np.ndarray | None) -> float | None:
    """Returns the share of samples whose largest logit is at the label, ``None`` without either."""
    return None if logits is None or labels is None or not has_classes(logits) else _share_equal(top_1(logits), labels)


def has_classes(logits: np.ndarray) -> bool:
    """Returns whether a largest output says something: one output alone is always the largest."""
    return logits[0].size > 1 if logits.ndim <= 2 else logits.shape[1] > 1


def _share_equal(found: np.ndarray, wanted: np.ndarray) -> float | None:
    # Dense outputs have no single class to compare with a label.
    return float((found == wanted).mean()) if found.shape == wanted.shape else None
