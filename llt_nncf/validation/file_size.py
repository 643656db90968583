"""How large a model is on disk, with the files beside it that it cannot be without."""

from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo
from onnx.external_data_helper import uses_external_data


def file_bytes(path: Path | str) -> int:
    """
    Returns the bytes of an ``.onnx`` with its external data, or of an ``.xml`` with its ``.bin``.

    :param path: The file.
    """
    path = Path(path)
    parts = {path}
    if path.suffix == ".xml":
        parts.add(path.with_suffix(".bin"))
    else:
        tensors = onnx.load(path, load_external_data=False).graph.initializer
        parts |= {path.parent / ExternalDataInfo(tensor).location for tensor in tensors if uses_external_data(tensor)}
    return sum(part.stat().st_size for part in parts)
