"""An exported ONNX file, read back: its integer weights, the grids of its activations, and which feeds which."""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from llt_nncf.artifacts import POLICY_KEY
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import reading
from llt_nncf.errors import ArtifactError
from llt_nncf.validation.constant_tensors import ConstantTensors

_SUFFIX = "/codes"
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_POOLINGS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean")
# They stand between a quantizer and the layer that it feeds.
_CARRIERS: tuple[str, ...] = ("Clip", "DepthToSpace", "DequantizeLinear", "Expand", "Flatten", "Gather")
_CARRIERS += ("Identity", "MaxPool", "Pad", "ReduceMax", "ReduceMin", "Reshape", "Resize", "Slice", "SpaceToDepth")
_CARRIERS += ("Split", "Squeeze", "Tile", "Transpose", "Unsqueeze")
# They take elements from one input or the other, Where by its first.
_MERGERS = ("Concat", "Max", "Min", "Where")


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


def steps_of_outputs(steps: np.ndarray, shape: Sequence[int], *, is_linear: bool, is_moved: bool) -> np.ndarray:
    """
    Returns the step sizes along dimension 1 of a model's outputs, or the largest if they do not lie along it.

    :param steps: Of the last layer's accumulator, shape ``()`` or ``(C,)``.
    :param shape: Of the outputs; 0 stands for a dimension of any size.
    :param is_linear: Whether the layer has its channels in the last dimension.
    :param is_moved: Whether they are reshaped behind it.
    :return: Shape ``()`` or ``(C,)``.
    """
    lie_along = len(shape) > 1 and steps.size == shape[1] and not is_moved and not (is_linear and len(shape) > 2)
    return steps if lie_along or steps.ndim == 0 else steps.max()


class ExportedModel:
    """
    What an exported file says.

    The names are the exporter's: tensor ``<layer>/codes`` for weights, an initializer or computed from packed ones, and
    tensor ``<quantizer>/codes`` for activations.

    :param path: Written by ``export_onnx``; with the file of external data, if it has one, beside it.
    :raises ArtifactError: If the file is missing, damaged, or was not written by ``export_onnx``.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        with reading(path, "an exported ONNX file"), np.errstate(all="raise", under="ignore"):
            self.proto = onnx.load(path)
            self._check_structure()
            graph = self.proto.graph
            self._constants = ConstantTensors(self.proto, str(path))
            self._producers = {name: node for node in graph.node for name in node.output}
            # A layer that is called several times has several nodes.
            self._layers: dict[str, list[onnx.NodeProto]] = {}
            for node in graph.node:
                weight = self._producers.get(node.input[1]) if node.op_type in _LAYERS else None
                if weight is not None and weight.op_type == "DequantizeLinear" and weight.input[0] in self._constants:
                    self._layers.setdefault(weight.input[0].removesuffix(_SUFFIX), []).append(node)
            self.operators = {name: nodes[0].op_type for name, nodes in self._layers.items()}
            notes = (entry for entry in self.proto.metadata_props if entry.key.startswith("llt_nncf."))
            self.metadata = {entry.key: entry.value for entry in notes}
            self.input_name = graph.input[0].name
            self.output_name = graph.output[0].name
            self.weights = self._read_weights()
            self.activations = self._read_activations()
            self.output_step_size = self._find_output_step_size()
        if not self.weights and not self.activations:
            msg = f"{path}: no integer weights and no quantizers in it: a float model, or a file of another tool."
            raise ArtifactError(msg)

    @cached_property
    def policy(self) -> BitPolicy | None:
        """
        The policy in the file's metadata, ``None`` if it has none.

        :raises ArtifactError: If it cannot be read.
        """
        if POLICY_KEY not in self.metadata:
            return None
        return BitPolicy.from_json(self.metadata[POLICY_KEY], f"{self.path}, metadata")

    def stored(self, layer: str) -> list[tuple[str, int, int]]:
        """Returns type, number of elements and bytes of the constants that a layer's codes are or come from."""
        return self._constants.stored(self._producers[self._layers[layer][0].input[1]].input[0])

    def quantizers_feeding(self, layer: str) -> tuple[str, ...]:
        """Returns the quantizers that feed a layer; an empty one among them stands for floats."""
        sources = (source for node in self._layers[layer] for source in self._sources(node.input[0]))
        return tuple(dict.fromkeys(sources))

    @cached_property
    def neighbours(self) -> dict[str, list[str]]:
        """Names of the nodes that stand beside the layers: ``additions`` of two activations, and ``poolings``."""
        variable = {value.name for value in self.proto.graph.input}
        for node in self.proto.graph.node:
            if variable & set(node.input):
                variable |= set(node.output)
        nodes = [node for node in self.proto.graph.node if set(node.input[:2]) <= variable]
        return {
            "additions": [node.name for node in nodes if node.op_type == "Add"],
            "poolings": [node.name for node in nodes if node.op_type in _POOLINGS],
        }

    def with_taps(self) -> onnx.ModelProto:
        """Returns a copy that has the codes of every quantizer as further outputs."""
        probe = onnx.ModelProto()
        probe.CopyFrom(self.proto)
        for name in self.activations:
            # Without a shape: that of a quantizer in mid-graph need not be known.
            output = onnx.ValueInfoProto(name=name + _SUFFIX)
            output.type.tensor_type.elem_type = onnx.TensorProto.UINT8
            probe.graph.output.append(output)
        return probe

    def tap_outputs(self) -> dict[str, str]:
        """Returns quantizer to the name of its output in ``with_taps``."""
        return {name: name + _SUFFIX for name in self.activations}

    def layers_before(self, name: str) -> list[str]:
        """Returns the layers that compute a tensor, from the codes of the quantizers in front of them."""
        found = []
        codes = set(self.tap_outputs().values())
        open_names, seen = [name], {name}
        layer_of = {node.output[0]: layer for layer, nodes in self._layers.items() for node in nodes}
        while open_names:
            current = open_names.pop()
            if current in layer_of:
                found.append(layer_of[current])
            for source in self._producers[current].input if current in self._producers else ():
                if source not in seen | codes:
                    seen.add(source)
                    open_names.append(source)
        return [layer for layer in self._layers if layer in found]

    def _sources(self, name: str) -> Iterator[str]:
        node = self._producers.get(name)
        if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in self.activations:
            yield name.removesuffix(_SUFFIX)
        elif node is not None and node.op_type in _CARRIERS:
            yield from self._sources(node.input[0])
        elif node is not None and node.op_type in _MERGERS:
            for source in node.input[1 if node.op_type == "Where" else 0 :]:
                if source not in self._constants:
                    yield from self._sources(source)
        else:
            yield ""

    def _check_structure(self) -> None:
        """Every tensor is made once, and before it is read; so there are no circles either."""
        graph = self.proto.graph
        if not graph.input or not graph.output:
            msg = f"{self.path}: a model without inputs or outputs."
            raise ArtifactError(msg)
        made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            for name in node.input:
                if name and name not in made:
                    msg = f"{self.path}: node {node.name!r} reads {name!r}, which nothing before it makes."
                    raise ArtifactError(msg)
            for name in node.output:
                if name in made:
                    msg = f"{self.path}: two tensors are named {name!r}."
                    raise ArtifactError(msg)
                made |= {name} - {""}

    def _read_weights(self) -> dict[str, WeightTensor]:
        """The integer weights by layer, in the order of the graph."""
        result = {}
        for name, nodes in self._layers.items():
            dequantize = self._producers[nodes[0].input[1]]
            codes, step_size = self._constants[dequantize.input[0]], self._constants[dequantize.input[1]]
            if codes.dtype != np.int8 or not codes.size:
                msg = (
                    f"{self.path}: the weights of {name!r} are {codes.dtype} of shape {codes.shape}, and must be int8."
                )
                raise ArtifactError(msg)
            result[name] = WeightTensor(codes.T if nodes[0].op_type == "MatMul" else codes, step_size)
        return result

    def _read_activations(self) -> dict[str, ActivationGrid]:
        """The grids by quantizer, in the order of the graph."""
        result = {}
        for node in self.proto.graph.node:
            if node.op_type in ("QuantizeLinear", "Clip") and node.output[0].endswith(_SUFFIX):
                quantize = self._producers[node.input[0]] if node.op_type == "Clip" else node
                low, high = 0, 255
                if node.op_type == "Clip":
                    low, high = (self._constants[name].item() for name in node.input[1:3])
                step_size, zero_point = (self._constants[name].item() for name in quantize.input[1:3])
                grid = ActivationGrid(low, high, zero_point, step_size, bool(node.doc_string))
                result[node.output[0].removesuffix(_SUFFIX)] = grid
        return result

    def _find_output_step_size(self) -> np.ndarray | None:
        """
        Real units per integer step of the first output: of the last layer's accumulator, see ``steps_of_outputs``.

        ``None`` if the output is not computed by a quantized layer or quantizer.
        """
        node, is_moved = self._producers.get(self.proto.graph.output[0].name), False
        while node is not None and node.op_type in ("Flatten", "Reshape", "Squeeze", "Identity", "Add"):
            # Of an Add only the one of a bias: the sum of two layers is on neither's grid.
            computed = [name for name in node.input[: 2 if node.op_type == "Add" else 1] if name in self._producers]
            is_moved |= node.op_type in ("Flatten", "Reshape", "Squeeze")
            node = self._producers[computed[0]] if len(computed) == 1 else None
        if node is not None and node.op_type == "DequantizeLinear":
            return self._constants[node.input[1]]
        if node is None or node.op_type not in _LAYERS:
            return None
        x, weight = (self._producers.get(name) for name in node.input[:2])
        if x is None or weight is None or {x.op_type, weight.op_type} != {"DequantizeLinear"}:
            return None
        steps = self._constants[x.input[1]] * self._constants[weight.input[1]]
        shape = [dimension.dim_value for dimension in self.proto.graph.output[0].type.tensor_type.shape.dim]
        return steps_of_outputs(steps, shape, is_linear=node.op_type == "MatMul", is_moved=is_moved)
