"""A model in memory in a form that an engine can load."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

# Protobuf serializes no more. Room is left for the graph beside the tensors.
_MOST_TENSOR_BYTES = 2**31 - 2**27


@contextmanager
def loadable(model: onnx.ModelProto, *, most_bytes: int = _MOST_TENSOR_BYTES) -> Iterator[bytes | Path]:
    """
    Gives the serialized model, or above 2 GB a file with external data that is there until the block ends.

    :param model: Not used afterwards: its tensors may have been moved out of it.
    :param most_bytes: Tensors of more bytes than these are written to a file.
    """
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= most_bytes:
        yield model.SerializeToString()
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path, save_as_external_data=True)
        yield path
