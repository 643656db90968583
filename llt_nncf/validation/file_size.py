"""How large a model is on disk, with the files beside it that it cannot be without."""

import math
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo
from onnx.external_data_helper import uses_external_data

from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ValidationFailedError
from llt_nncf.validation.exported_model import ExportedModel

_FLOAT_BYTES = 4


def file_bytes(path: Path | str) -> int:
    """
    Returns the bytes of an ``.onnx`` with its external data, or of an ``.xml`` with its ``.bin``.

    :param path: The file.
    :raises ValidationFailedError: If one of them is missing.
    """
    path = Path(path)
    try:
        return sum(part.stat().st_size for part in {path, *_parts(path)})
    except OSError as error:
        msg = f"{path}: its size cannot be told: {error}"
        raise ValidationFailedError(msg) from error


def _parts(path: Path) -> set[Path]:
    """Files beside ``path``."""
    if path.suffix == ".xml":
        return {path.with_suffix(".bin")}
    try:
        tensors = onnx.load_model(path, format="protobuf", load_external_data=False).graph.initializer
    except DecodeError:
        return set()  # whoever runs it says what is wrong with it
    return {path.parent / ExternalDataInfo(tensor).location for tensor in tensors if uses_external_data(tensor)}


def theoretical_bytes(exported: ExportedModel, policy: BitPolicy) -> dict[str, int]:
    """
    Returns what the parameters would take with every weight in exactly its bits, and nothing else in the file.

    :param exported: The file.
    :param policy: Bits by layer.
    :return: Bytes of ``weights``, of ``step_sizes`` and ``biases`` in 32 bits, and in ``total``.
    """
    tensors = {name: tensor for name, tensor in exported.weights.items() if name in policy.bits}
    bits = sum(policy.bits[name][0] * tensor.codes.size for name, tensor in tensors.items())
    shapes = {tensor.name: tuple(tensor.dims) for tensor in exported.proto.graph.initializer}
    parts = {
        "weights": -(-bits // 8),
        "step_sizes": _FLOAT_BYTES * sum(tensor.step_size.size for tensor in tensors.values()),
        "biases": _FLOAT_BYTES * sum(math.prod(shapes.get(f"{name}/bias_codes", (0,))) for name in tensors),
    }
    return {**parts, "total": sum(parts.values())}
