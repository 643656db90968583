"""What an exported file holds, layer by layer, and the policy that it was made by."""

import re
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import some_of
from llt_nncf.validation.bit_widths import check_bit_widths
from llt_nncf.validation.bit_widths import weight_bits_needed
from llt_nncf.validation.exported_ir import ExportedIr
from llt_nncf.validation.exported_model import ActivationGrid
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.file_size import file_bytes
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from llt_nncf.validation.runners import Runner


@dataclass(frozen=True)
class LayerContents:
    """
    A layer.

    :param name: Name of the module.
    :param operator: As the file has it.
    :param weight_bits: By the policy in the file, ``None`` without.
    :param needed_bits: The fewest that hold the codes.
    :param container: How the codes are stored: ``int8``, ``4-bit + 1-bit``, ``u4 + u1``.
    :param stored_bits: Bits in the container for each weight.
    :param stored_bytes: Bytes of the container.
    :param weight_count: Number of weights.
    :param step_sizes: How many there are, the smallest and the largest.
    :param quantizers: Activation quantizers that feed the layer; an empty one stands for floats.
    :param kernels: Engine to the kernel that executes the layer, with ``int8`` or ``float`` in front.
    """

    name: str
    operator: str
    weight_bits: int | None
    needed_bits: int
    container: str
    stored_bits: int
    stored_bytes: int
    weight_count: int
    step_sizes: tuple[int, float, float]
    quantizers: tuple[str, ...]
    kernels: Mapping[str, str]


@dataclass(frozen=True)
class ActivationContents:
    """
    An activation quantizer.

    :param name: ``name#1`` for its second call in a forward pass.
    :param num_bits: The fewest that hold the codes.
    :param signed: Whether there are negative codes.
    :param low: Smallest code.
    :param high: Largest code.
    :param step_size: Real units per code.
    :param is_narrowed: Whether an activation function's bounds leave fewer codes than the quantizer's bit-width has:
        it may have had more bits.
    """

    name: str
    num_bits: int
    signed: bool
    low: int
    high: int
    step_size: float
    is_narrowed: bool


@dataclass(frozen=True)
class FileContents:
    """
    An exported file.

    :param path: The file.
    :param file_bytes: Its size, with the ``.bin`` or the external data beside it.
    :param layers: In the order of the graph.
    :param activations: In the order of the graph.
    :param metadata: What the exporter noted.
    :param policy: The bits; ``None`` if the file does not tell them.
    :param policy_source: ``metadata`` or ``tensors``.
    :param remarks: A sentence for everything that makes the policy doubtful.
    """

    path: str
    file_bytes: int
    layers: tuple[LayerContents, ...]
    activations: tuple[ActivationContents, ...]
    metadata: Mapping[str, str]
    policy: BitPolicy | None
    policy_source: str
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-able values."""
        return {**asdict(self), "policy": None if self.policy is None else self.policy.to_dict()}


def read_contents(path: Path | str, *, with_kernels: bool = True) -> FileContents:
    """
    Reads an exported file back.

    :param path: A ``.onnx`` or ``.xml`` that this package wrote.
    :param with_kernels: Loads the file into the engines, to see what they execute: an ONNX file into both.
    :raises ArtifactError: If the file cannot be read, or has no integer weights of this package's making.
    :raises ValidationFailedError: If an engine cannot load it.
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".xml"):
        msg = f"{path}: the name of an exported file ends in .onnx or .xml."
        raise ArtifactError(msg)
    is_ir = path.suffix == ".xml"
    model = ExportedIr(path) if is_ir else ExportedModel(path)
    if not model.weights:
        msg = f"{path}: no integer weights named LAYER/codes, as a file exported by llt_nncf has them. "
        raise ArtifactError(msg + "Give a model.onnx or model.xml that `llt-nncf export` or export_model wrote.")
    kernels: dict[str, Mapping[str, tuple[str, bool]]] = {}
    if with_kernels:
        runners: list[Runner] = [OpenVinoRunner(path)] if is_ir else [OnnxRuntimeRunner(path), OpenVinoRunner(path)]
        kernels = {runner.engine: runner.kernels(list(model.weights)) for runner in runners}
    layers = tuple(_layer(model, name, kernels) for name in model.weights)
    activations = tuple(_activation(name, grid) for name, grid in model.activations.items())
    policy, source = model.policy, "metadata"
    if policy is None:
        (policy, remarks), source = _policy_of_tensors(layers, activations), "tensors"
    else:
        _, faults = check_bit_widths(model, policy)
        remarks = [f"The policy in the metadata does not fit the tensors: {fault}" for fault in faults]
    return FileContents(
        str(path), file_bytes(path), layers, activations, model.metadata, policy, source, tuple(remarks)
    )


def _layer(
    model: ExportedModel | ExportedIr, name: str, kernels: Mapping[str, Mapping[str, tuple[str, bool]]]
) -> LayerContents:
    codes, steps = model.weights[name].codes, model.weights[name].step_size
    planes = _planes(model.stored(name), codes.size)
    return LayerContents(
        name=name,
        operator=model.operators[name],
        weight_bits=model.policy.bits[name][0] if model.policy is not None and name in model.policy.bits else None,
        needed_bits=weight_bits_needed(codes),
        container=" + ".join(kind for kind, *_ in planes),
        stored_bits=sum(bits for _, bits, _ in planes),
        stored_bytes=sum(size for *_, size in planes),
        weight_count=codes.size,
        step_sizes=(steps.size, float(steps.min()), float(steps.max())),
        quantizers=model.quantizers_feeding(name),
        kernels={
            engine: f"{'int8' if found[name][1] else 'float'} {found[name][0]}"
            for engine, found in kernels.items()
            if name in found
        },
    )


def _planes(stored: Sequence[tuple[str, int, int]], weight_count: int) -> list[tuple[str, int, int]]:
    """
    Returns type, bits for each weight, and bytes of the constants that hold weights, the widest first.

    An offset or a divisor has too few elements, and too wide ones. In uint8 a plane of fewer bits holds several weights
    in each element: it is named after its bits.

    >>> _planes([("uint8", 50, 50), ("uint8", 13, 13), ("int32", 1, 4)], weight_count=100)
    [('4-bit', 4, 50), ('1-bit', 1, 13)]
    >>> _planes([("u6", 100, 75), ("u1", 100, 13), ("i8", 1, 1)], weight_count=100)
    [('u6', 6, 75), ('u1', 1, 13)]
    """
    planes = []
    for kind, count, size in stored:
        bits = int(re.sub(r"\D", "", kind) or 0)
        if count == weight_count and 0 < bits <= 8:
            planes.append((kind, bits, size))
        elif kind in ("uint8", "u8") and (
            packed := max((b for b in (4, 2, 1) if 8 * size >= b * weight_count), default=0)
        ):
            planes.append((f"{packed}-bit", packed, size))
    return sorted(planes, key=lambda plane: -plane[1])


def _activation(name: str, grid: ActivationGrid) -> ActivationContents:
    low, high, signed = grid.low - grid.zero_point, grid.high - grid.zero_point, grid.zero_point != 0
    num_bits = max(2, high.bit_length() + signed, (-low - 1).bit_length() + 1 if low < 0 else 2)
    return ActivationContents(name, num_bits, signed, low, high, grid.step_size, grid.is_narrowed)


def _policy_of_tensors(
    layers: Sequence[LayerContents], activations: Sequence[ActivationContents]
) -> tuple[BitPolicy | None, list[str]]:
    """Returns the bits that containers and grids show, and what is doubtful about them."""
    by_name = {activation.name: activation for activation in activations}
    remarks, bits = [], {}
    for layer in layers:
        feeding = [by_name[name] for name in layer.quantizers if name]
        if not feeding or len(feeding) < len(layer.quantizers):
            return None, [f"There is no policy: the input of {layer.name!r} is not quantized."]
        if len({activation.num_bits for activation in feeding}) > 1:
            names = some_of([repr(activation.name) for activation in feeding], 4)
            remarks.append(f"{layer.name!r} is fed by {names} of different bits: the most are taken.")
        # A container of 8 bits holds any weights.
        weight_bits = layer.needed_bits if layer.stored_bits == 8 else layer.stored_bits
        bits[layer.name] = (weight_bits, max(activation.num_bits for activation in feeding))
    if any(layer.stored_bits == 8 for layer in layers):
        remarks.append(
            "Weights in 8-bit containers count with the fewest bits that hold them; training may have had more."
        )
    remarks += [
        f"The range of {a.name!r} was narrowed by an activation function to {a.low}..{a.high}: it has at least "
        f"{a.num_bits} bits."
        for a in activations
        if a.is_narrowed and any(a.name in layer.quantizers for layer in layers)
    ]
    return BitPolicy(bits, {"rebuilt_from": "tensors"}), remarks
