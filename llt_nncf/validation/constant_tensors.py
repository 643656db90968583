"""The tensors of an ONNX graph that no input can change: initializers, and what standard nodes compute from them."""

import numpy as np
import onnx
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from llt_nncf.errors import ArtifactError


class ConstantTensors:
    """
    Reads constants, as the engines' constant folding does at load.

    :param model: Its nodes are in an order in which they can be executed.
    :param where: Named in errors.
    """

    def __init__(self, model: onnx.ModelProto, where: str):
        self._opsets = list(model.opset_import)
        self._where = where
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes = list(model.graph.node)
        self._producers: dict[str, int] = {}
        for index, node in enumerate(self._nodes):
            is_known = all(name in self for name in node.input if name)
            if is_known and not node.domain and not node.op_type.startswith("Random"):
                self._producers |= dict.fromkeys(node.output, index)

    def __contains__(self, name: str) -> bool:
        return name in self._initializers or name in self._producers

    def __getitem__(self, name: str) -> np.ndarray:
        """
        Returns the value of a tensor.

        :raises ArtifactError: If the file has no such constant.
        """
        if name not in self:
            msg = f"{self._where}: {name!r} is not a constant, as weights and grids of an exported file are."
            raise ArtifactError(msg)
        if name in self._initializers:
            return numpy_helper.to_array(self._initializers[name])
        nodes, initializers = self._ancestry(name)
        output = onnx.ValueInfoProto(name=name)
        graph = helper.make_graph(nodes, "constants", [], [output], initializers)
        model = helper.make_model(graph, opset_imports=self._opsets)
        (value,) = ReferenceEvaluator(model).run(None, {})
        return np.asarray(value)

    def stored(self, name: str) -> list[tuple[str, int, int]]:
        """Returns type, number of elements and bytes of the initializers that a tensor is, or is computed from."""
        found = []
        for tensor in self._ancestry(name)[1]:
            array = numpy_helper.to_array(tensor)
            kind = TensorProto.DataType.Name(tensor.data_type).lower()
            # In memory a 4-bit element takes a byte.
            found.append((kind, array.size, len(tensor.raw_data) or array.nbytes))
        return found

    def _ancestry(self, name: str) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
        """The nodes that compute a tensor, in the order of execution, and the initializers that they start from."""
        seen: set[str] = set()
        open_names = [name]
        while open_names:
            current = open_names.pop()
            if current not in seen and current in self._producers:
                open_names += self._nodes[self._producers[current]].input
            seen.add(current)
        indices = sorted({self._producers[current] for current in seen & set(self._producers)})
        initializers = [self._initializers[current] for current in seen & set(self._initializers)]
        return [self._nodes[index] for index in indices], initializers
