"""An exported ONNX file, read back: its integer weights, the grids of its activations, and which feeds which."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from llt_nncf.artifacts import POLICY_KEY
from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ArtifactError

_SUFFIX = "/codes"
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# They stand between a quantizer and the layer that it feeds.
_CARRIERS: tuple[str, ...] = ("Clip", "Concat", "DepthToSpace", "DequantizeLinear", "Expand", "Flatten", "Gather")
_CARRIERS += ("Identity", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile")
_CARRIERS += ("Transpose", "Unsqueeze")


@dataclass(frozen=True)
class WeightTensor:
    """
    A layer's weights.

    :param codes: int8, in the layout of the layer's weight tensor in PyTorch.
    :param step_size: Shape ``()`` or ``(C,)``.
    """

    codes: np.ndarray
    step_size: np.ndarray


@dataclass(frozen=True)
class ActivationGrid:
    """
    The codes that a quantizer can give.

    :param low: Smallest uint8 code.
    :param high: Largest uint8 code.
    :param zero_point: The uint8 code of 0.0.
    :param step_size: Real units per code.
    :param is_narrowed: Whether an activation function's bounds leave fewer codes than the bit-width has.
    """

    low: int
    high: int
    zero_point: int
    step_size: float
    is_narrowed: bool


class ExportedModel:
    """
    What an exported file says.

    The names are the exporter's: initializer ``<layer>/codes``, tensor ``<quantizer>/codes``.

    :param path: Written by ``export_onnx``.
    :raises ArtifactError: If the file is missing or is not ONNX.
    """

    def __init__(self, path: Path | str):
        try:
            self.proto = onnx.load(path)
        except (OSError, DecodeError) as error:
            msg = f"{path}: cannot be read as ONNX: {error!r}"
            raise ArtifactError(msg) from error
        graph = self.proto.graph
        self.path = Path(path)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._producers = {name: node for node in graph.node for name in node.output}
        # A layer that is called several times has several nodes.
        self._layers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            weight = self._producers.get(node.input[1]) if node.op_type in _LAYERS else None
            if weight is not None and weight.op_type == "DequantizeLinear" and weight.input[0] in self._initializers:
                self._layers.setdefault(weight.input[0].removesuffix(_SUFFIX), []).append(node)

    @cached_property
    def policy(self) -> BitPolicy | None:
        """
        The policy in the file's metadata, ``None`` if it has none.

        :raises ArtifactError: If it cannot be read.
        """
        for entry in self.proto.metadata_props:
            if entry.key == POLICY_KEY:
                try:
                    return BitPolicy.from_dict(json.loads(entry.value), f"{self.path}, metadata")
                except json.JSONDecodeError as error:
                    msg = f"{self.path}: the policy in the metadata is not JSON: {error}"
                    raise ArtifactError(msg) from error
        return None

    @cached_property
    def weights(self) -> dict[str, WeightTensor]:
        """The integer weights by layer, in the order of the graph."""
        result = {}
        for name, nodes in self._layers.items():
            dequantize = self._producers[nodes[0].input[1]]
            codes, step_size = self._array(dequantize.input[0]), self._array(dequantize.input[1])
            result[name] = WeightTensor(codes.T if nodes[0].op_type == "MatMul" else codes, step_size)
        return result

    @cached_property
    def activations(self) -> dict[str, ActivationGrid]:
        """The grids by quantizer, in the order of the graph."""
        result = {}
        for node in self.proto.graph.node:
            if node.op_type in ("QuantizeLinear", "Clip") and node.output[0].endswith(_SUFFIX):
                quantize = self._producers[node.input[0]] if node.op_type == "Clip" else node
                low, high = (int(self._array(name)) for name in node.input[1:3]) if node.op_type == "Clip" else (0, 255)
                step_size, zero_point = (self._array(name).item() for name in quantize.input[1:3])
                grid = ActivationGrid(low, high, zero_point, step_size, bool(node.doc_string))
                result[node.output[0].removesuffix(_SUFFIX)] = grid
        return result

    def quantizers_feeding(self, layer: str) -> tuple[str, ...]:
        """Returns the quantizers that feed a layer; an empty one among them stands for floats."""
        sources = (source for node in self._layers[layer] for source in self._sources(node.input[0]))
        return tuple(dict.fromkeys(sources))

    @cached_property
    def output_step_size(self) -> np.ndarray | None:
        """
        Real units per integer step of the first output: of the last layer's accumulator, shape ``()`` or ``(C,)``.

        ``None`` if the output is not computed by a quantized layer or quantizer.
        """
        node = self._producers.get(self.proto.graph.output[0].name)
        while node is not None and node.op_type in ("Flatten", "Reshape", "Squeeze", "Identity", "Add"):
            # Of an Add only the one of a bias: the sum of two layers is on neither's grid.
            computed = [name for name in node.input[: 2 if node.op_type == "Add" else 1] if name in self._producers]
            node = self._producers[computed[0]] if len(computed) == 1 else None
        if node is not None and node.op_type == "DequantizeLinear":
            return self._array(node.input[1])
        if node is None or node.op_type not in _LAYERS:
            return None
        x, weight = (self._producers.get(name) for name in node.input[:2])
        if x is None or weight is None or {x.op_type, weight.op_type} != {"DequantizeLinear"}:
            return None
        return self._array(x.input[1]) * self._array(weight.input[1])

    def with_taps(self) -> bytes:
        """Returns a serialized copy that has the codes of every quantizer as further outputs."""
        probe = onnx.ModelProto()
        probe.CopyFrom(self.proto)
        for name in self.activations:
            # Without a shape: that of a quantizer in mid-graph need not be known.
            output = onnx.ValueInfoProto(name=name + _SUFFIX)
            output.type.tensor_type.elem_type = onnx.TensorProto.UINT8
            probe.graph.output.append(output)
        return probe.SerializeToString()

    def tap_outputs(self) -> dict[str, str]:
        """Returns quantizer to the name of its output in ``with_taps``."""
        return {name: name + _SUFFIX for name in self.activations}

    def _sources(self, name: str) -> Iterator[str]:
        node = self._producers.get(name)
        if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in self.activations:
            yield name.removesuffix(_SUFFIX)
        elif node is not None and node.op_type in _CARRIERS:
            for source in node.input if node.op_type == "Concat" else node.input[:1]:
                yield from self._sources(source)
        else:
            yield ""

    def _array(self, name: str) -> np.ndarray:
        if name not in self._initializers:
            msg = f"{self.path}: {name!r} is not a constant of the file, as an exported model's grids are."
            raise ArtifactError(msg)
        return numpy_helper.to_array(self._initializers[name])
