"""An exported OpenVINO model that stands for itself: what checks ask of ``ExportedModel`` for an ONNX file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov

from llt_nncf.artifacts import reading
from llt_nncf.errors import ArtifactError
from llt_nncf.validation.ir_model import IrModel

_SUFFIX = "/codes"
_LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
# They change nothing about the grid of what they are given, or add a bias that is on it.
_ON_GRID = ("Add", "Convert", "Reshape", "Squeeze", "Subtract")


class ExportedIr(IrModel):
    """
    The same, read at once so that every fault is named here, and with all that checks ask of ``ExportedModel``.

    :param path: Written by ``export_openvino``.
    :raises ArtifactError: If a file is missing, damaged, or was not written by ``export_openvino``.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not self.path.exists():
            msg = f"{path}: no such file."
            raise ArtifactError(msg)
        # Step sizes of 0 and the like are damage too.
        with (
            reading(path, "an exported OpenVINO model, together with its .bin"),
            np.errstate(all="raise", under="ignore"),
        ):
            self.path.read_text(encoding="utf-8")  # OpenVINO takes other names too, but cannot tell them
            super().__init__(path)
            has_grids = bool(self.weights or self.activations)
            _ = self.policy
            self.input_name = self._model.inputs[0].get_any_name()
            self.output_name = self._model.outputs[0].get_any_name()
            self.output_step_size = self._find_output_step_size()
        if not has_grids:
            msg = f"{path}: no integer weights and no quantizers in it: a float model, or a file of another tool."
            raise ArtifactError(msg)

    def tap_outputs(self) -> dict[str, str]:
        """Returns quantizer to the name of the tensor with its codes."""
        return {name: name + _SUFFIX for name in self.activations}

    def layers_before(self, name: str) -> list[str]:
        """Returns the layers that compute a tensor, from the codes of the quantizers in front of them."""
        outputs = (output for operation in self._model.get_ordered_ops() for output in operation.outputs())
        output = next(output for output in outputs if name in output.get_names())
        found = {weights for weights in _codes_behind(output) if weights in self.weights}
        return [layer for layer in self.weights if layer in found]

    def _find_output_step_size(self) -> np.ndarray | None:
        output, is_scaled = self._model.outputs[0].get_node().input_value(0), False
        while (node := output.get_node()).get_type_name() not in _LAYERS:
            codes = {name.removesuffix(_SUFFIX) for name in output.get_names()} & set(self.activations)
            if codes:
                return np.asarray(self.activations[codes.pop()].step_size, np.float32)
            computed = [source for source in node.input_values() if not _is_constant(source)]
            if node.get_type_name() not in (*_ON_GRID, "Multiply") or len(computed) != 1:
                return None
            if node.get_type_name() == "Multiply":
                # By 1 where ONNX has a Gemm; else it can only be the one that brings codes back to floats.
                factors = [source.get_node() for source in node.input_values() if _is_constant(source)]
                is_scaled |= factors[0].get_type_name() != "Constant" or not (factors[0].data == 1).all()
            output = computed[0]
        layers = [weights for weights in _codes_behind(node.input_value(1)) if weights in self.weights]
        quantizers = self.quantizers_feeding(layers[0]) if len(layers) == 1 else ()
        if len(quantizers) != 1 or not quantizers[0] or is_scaled:
            return None
        return np.float32(self.activations[quantizers[0]].step_size) * self.weights[layers[0]].step_size


def _codes_behind(output: ov.Output) -> Iterator[str]:
    """Names in front of ``/codes`` that a tensor is computed from, as far as the next codes."""
    open_nodes, seen = [output.get_node()], set()
    while open_nodes:
        for source in open_nodes.pop().input_values():
            names = [name.removesuffix(_SUFFIX) for name in source.get_names() if name.endswith(_SUFFIX)]
            yield from names
            if not names and source.get_node().get_name() not in seen:
                seen.add(source.get_node().get_name())
                open_nodes.append(source.get_node())


def _is_constant(output: ov.Output) -> bool:
    open_nodes = [output.get_node()]
    while open_nodes:
        node = open_nodes.pop()
        sources = [] if node.get_type_name() == "ShapeOf" else node.input_values()
        if not sources and node.get_type_name() not in ("Constant", "ShapeOf"):
            return False
        open_nodes += [source.get_node() for source in sources]
    return True
