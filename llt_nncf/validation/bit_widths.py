"""The bit-width of every tensor, read back from the exported file and compared with the policy."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from llt_nncf.artifacts import DIGEST_KEY
from llt_nncf.artifacts import UNSEARCHED_BITS
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import Reference
from llt_nncf.artifacts import graph_digest
from llt_nncf.artifacts import weight_digest
from llt_nncf.validation.exported_ir import ExportedIr
from llt_nncf.validation.exported_model import ActivationGrid
from llt_nncf.validation.exported_model import ExportedModel


def weight_bits_needed(codes: np.ndarray) -> int:
    """
    Returns the smallest signed bit-width that holds the codes, at least 2.

    Folding a batch norm of negative gain negates a channel's codes, so the lowest code may appear with its sign turned:
    8 counts as a code of 4 bits (-8..7), 64 as one of 7.

    >>> weight_bits_needed(np.array([-8, 8], np.int8)), weight_bits_needed(np.array([9], np.int8))
    (4, 5)

    :param codes: int8 codes.
    """
    magnitude = int(np.abs(codes.astype(np.int16)).max(initial=0))
    return max(2, (magnitude - 1).bit_length() + 1) if magnitude else 2


def check_bit_widths(
    exported: ExportedModel | ExportedIr, policy: BitPolicy, table: LayerTable | None = None
) -> tuple[dict[str, Any], list[str]]:
    """
    Compares the file with the policy.

    Weights that need fewer bits than their policy are listed, not faulted: nothing forces training to use every code.

    :param exported: The file.
    :param policy: The bits that were decided.
    :param table: The layers; with it every quantizer is checked, also those that feed no layer, or one by a
        concatenation.
    :return: The figures per layer and quantizer, and a sentence per fault.
    """
    faults = [
        f"Layer {name!r} of the policy is not in the file; one that reaches no output belongs into ignored_scopes."
        for name in policy.bits
        if name not in exported.weights
    ]
    faults += [
        f"Layer {name!r} of the file is not in the policy." for name in exported.weights if name not in policy.bits
    ]
    weights: dict[str, Any] = {}
    wanted: dict[str, int] = {}
    for name, tensor in exported.weights.items():
        if name not in policy.bits:
            continue
        weight_bits, activation_bits = policy.bits[name]
        needed = weight_bits_needed(tensor.codes)
        weights[name] = {"policy_bits": weight_bits, "needed_bits": needed, "weight_count": int(tensor.codes.size)}
        # What is wider is no weight, but the arithmetic of unpacking.
        stored_bytes = sum(size for kind, _, size in exported.stored(name) if int(re.sub(r"\D", "", kind) or 0) <= 8)
        weights[name] |= {"stored_bits": 8 * stored_bytes / tensor.codes.size, "stored_bytes": stored_bytes}
        if needed > weight_bits:
            faults.append(f"The weights of {name!r} need {needed} bits; the policy gives them {weight_bits}.")
        feeding = {_without_call(quantizer) for quantizer in exported.quantizers_feeding(name)}
        if "" in feeding:
            row = table.by_name.get(name) if table is not None else None
            # Without a table any input may be meant to be float that has the bits at which those are counted.
            if not (activation_bits == UNSEARCHED_BITS if row is None else row.has_float_input):
                faults.append(f"The input of {name!r} is not quantized; the policy gives it {activation_bits} bits.")
        # Behind a concatenation of several quantizers only the table can tell which of them the policy speaks of.
        elif len(feeding) == 1:
            (quantizer,) = feeding
            if wanted.setdefault(quantizer, activation_bits) != activation_bits:
                both = f"{wanted[quantizer]} and {activation_bits}"
                faults.append(f"Quantizer {quantizer!r} feeds layers to which the policy gives {both} bits.")
    if table is not None and not (absent := [name for name in table.by_name if name not in policy.bits]):
        wanted = policy.activation_bits(table)
        lost = set(wanted) - {_without_call(quantizer) for quantizer in exported.activations}
        faults += [f"Quantizer {name!r} of the layer table is not in the file." for name in sorted(lost)]
    elif table is not None:
        faults += [f"Layer {name!r} of the layer table is not in the policy." for name in absent]
    activations, range_faults = _check_ranges(exported.activations, wanted)
    return {"weights": weights, "activations": activations}, faults + range_faults


def check_weights(exported: ExportedModel | ExportedIr, reference: Reference) -> list[str]:
    """Returns a sentence for every layer whose weights are not those that were frozen, and for a changed ONNX file."""
    faults = []
    for name, digest in reference.weight_digests.items():
        tensor = exported.weights.get(name)
        if tensor is None:
            faults.append(f"Layer {name!r} of the reference has no integer weights in {exported.path.name}.")
        elif weight_digest(tensor.codes, tensor.step_size) != digest:
            faults.append(f"The weights of {name!r} in {exported.path.name} are not those of the frozen PyTorch model.")
    if isinstance(exported, ExportedModel):
        noted = exported.metadata.get(DIGEST_KEY)
        if noted is not None and noted != graph_digest(exported.proto.graph):
            faults.append(f"{exported.path.name} was changed since it was exported: its digest is another.")
    return faults


def _without_call(quantizer: str) -> str:
    """Returns the quantizer's name without the number of its call: ``name`` for ``name#1``."""
    return re.sub(r"#\d+$", "", quantizer)


def _check_ranges(grids: Mapping[str, ActivationGrid], wanted: Mapping[str, int]) -> tuple[dict[str, Any], list[str]]:
    rows: dict[str, Any] = {}
    faults = []
    for name, grid in grids.items():
        signed = grid.zero_point != 0
        low, high = grid.low - grid.zero_point, grid.high - grid.zero_point
        num_bits = wanted.get(_without_call(name))
        rows[name] = {"policy_bits": num_bits, "signed": signed, "low": low, "high": high}
        if num_bits is None:
            continue
        qmin, qmax = (-(2 ** (num_bits - 1)), 2 ** (num_bits - 1) - 1) if signed else (0, 2**num_bits - 1)
        is_inside = qmin <= low and high <= qmax
        if (low, high) != (qmin, qmax) and not (is_inside and grid.is_narrowed):
            found = f"gives codes {low}..{high}; {num_bits} bits, as the policy says, give {qmin}..{qmax}"
            faults.append(f"Quantizer {name!r} {found}.")
    return rows, faults
