"""An exported OpenVINO model, read back: its integer weights, the grids of its activations, and which feeds which."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from llt_nncf.artifacts import DIGEST_KEY
from llt_nncf.artifacts import NARROWED_KEY
from llt_nncf.artifacts import POLICY_KEY
from llt_nncf.artifacts import VERSIONS_KEY
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import reading
from llt_nncf.errors import ArtifactError
from llt_nncf.validation.exported_model import ActivationGrid
from llt_nncf.validation.exported_model import WeightTensor
from llt_nncf.validation.exported_model import steps_of_outputs
from llt_nncf.validation.ir_tensors import CODES_SUFFIX
from llt_nncf.validation.ir_tensors import code_limits
from llt_nncf.validation.ir_tensors import codes_behind
from llt_nncf.validation.ir_tensors import evaluate
from llt_nncf.validation.ir_tensors import is_constant
from llt_nncf.validation.ir_tensors import is_doubled

_LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
_POOLINGS = ("AvgPool", "MaxPool", "ReduceMax", "ReduceMean")
# They stand between a quantizer and the layer that it feeds.
_CARRIERS: tuple[str, ...] = ("Broadcast", "Convert", "DepthToSpace", "Gather", "Interpolate", "MaxPool", "Multiply")
_CARRIERS += ("Pad", "ReduceMax", "ReduceMin", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "StridedSlice")
_CARRIERS += ("Subtract", "Tile", "Transpose", "Unsqueeze", "VariadicSplit")
# They take elements from one input or the other, Select by its first.
_MERGERS = ("Concat", "Maximum", "Minimum", "Select")
# They change nothing about the grid of what they are given, or add a bias that is on it.
_ON_GRID = ("Add", "Convert", "Reshape", "Squeeze", "Subtract")


class ExportedIr:
    """
    What an ``.xml`` and its ``.bin`` say, by the names that ``ExportedModel`` has for the same in an ONNX file.

    The int8 codes of layer ``name`` are the tensor ``<name>/codes``, stored or computed from constants; the uint8 codes
    of a quantizer are the tensor ``<quantizer>/codes``. All is read at once, so that every fault is named here.

    :param path: Written by ``export_openvino``.
    :raises ArtifactError: If a file is missing, damaged, or was not written by ``export_openvino``.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        # Step sizes of 0 and the like are damage too.
        with (
            reading(path, "an exported OpenVINO model, together with its .bin"),
            np.errstate(all="raise", under="ignore"),
        ):
            self.path.read_text(encoding="utf-8")  # OpenVINO takes other names too, but cannot tell them
            self._model = ov.Core().read_model(str(path))
            found: dict[Any, dict[str, Any]] = {"i8": {}, "u8": {}}
            for operation in self._model.get_ordered_ops():
                for output in operation.outputs():
                    named = found.get(output.get_element_type().get_type_name(), {})
                    codes = (name for name in output.get_names() if name.endswith(CODES_SUFFIX))
                    named |= {name.removesuffix(CODES_SUFFIX): output for name in codes}
            self._codes, self._quantizers = found["i8"], found["u8"]
            has_grids = bool(self.weights or self.activations)
            _ = self.policy
            self.input_name = self._model.inputs[0].get_any_name()
            self.output_name = self._model.outputs[0].get_any_name()
            self.output_step_size = self._find_output_step_size()
        if not has_grids:
            msg = f"{path}: no integer weights and no quantizers in it: a float model, or a file of another tool."
            raise ArtifactError(msg)

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What the exporter noted in the model, by its keys in the ONNX file."""
        notes = {key: self._note(key) for key in (POLICY_KEY, VERSIONS_KEY, DIGEST_KEY)}
        return {key: note for key, note in notes.items() if note is not None}

    @cached_property
    def policy(self) -> BitPolicy | None:
        """
        The policy in the metadata, ``None`` if there is none.

        :raises ArtifactError: If it cannot be read.
        """
        if POLICY_KEY not in self.metadata:
            return None
        return BitPolicy.from_json(self.metadata[POLICY_KEY], f"{self.path}, metadata")

    @cached_property
    def weights(self) -> dict[str, WeightTensor]:
        """The integer weights by layer, in the order of the graph."""
        steps = [self._dequantization(name, codes)[1] for name, codes in self._codes.items()]
        values = evaluate([*self._codes.values(), *steps])
        result = {}
        for name, codes, step_size in zip(self._codes, values, values[len(steps) :], strict=False):
            layer = self._layers[name][0]
            is_transposed = layer.get_type_name() == "MatMul" and not layer.get_attributes()["transpose_b"]
            step_size = step_size.reshape(-1 if step_size.size > 1 else ())
            result[name] = WeightTensor(codes.T if is_transposed else codes, step_size)
        return result

    @cached_property
    def operators(self) -> dict[str, str]:
        """Operator by layer, in OpenVINO's words."""
        return {name: layers[0].get_type_name() for name, layers in self._layers.items()}

    @cached_property
    def neighbours(self) -> dict[str, list[str]]:
        """Names of the nodes that stand beside the layers: ``additions`` of two activations, and ``poolings``."""
        variable: set[str] = set()
        result: dict[str, list[str]] = {"additions": [], "poolings": []}
        for node in self._model.get_ordered_ops():
            sources = [value.get_node().get_name() in variable for value in node.input_values()]
            # A bias is reshaped to the rank of what it is added to.
            if node.get_type_name() != "ShapeOf" and (any(sources) or node.get_type_name() == "Parameter"):
                variable.add(node.get_name())
            if node.get_type_name() == "Add" and all(sources):
                result["additions"].append(node.get_friendly_name())
            if node.get_type_name() in _POOLINGS and sources[0]:
                result["poolings"].append(node.get_friendly_name())
        return result

    def stored(self, layer: str) -> list[tuple[str, int, int]]:
        """Returns type, number of elements and bytes of the constants that a layer's weights are computed from."""
        leaves, open_nodes = {}, [self._codes[layer].get_node()]
        while open_nodes:
            node = open_nodes.pop()
            open_nodes += [value.get_node() for value in node.input_values()]
            if node.get_type_name() == "Constant":
                count = int(np.prod(node.get_output_shape(0)))
                leaves[node.get_name()] = (node.get_element_type().get_type_name(), count, node.get_byte_size())
        return list(leaves.values())

    @cached_property
    def activations(self) -> dict[str, ActivationGrid]:
        """
        The grids by quantizer, in the order of the graph.

        A file that another tool converted does not name the narrowed ones: there they are those that no bit-width has
        in full.

        :raises ArtifactError: If a step size is missing or not positive.
        """
        found = [self._dequantization(name, codes) for name, codes in self._quantizers.items()]
        values = iter(evaluate([output for pair in found for output in pair[:2] if output is not None]))
        note = self._note(NARROWED_KEY)
        result, narrowed = {}, None if note is None else json.loads(note)
        for (name, codes), (zero, _, multiply) in zip(self._quantizers.items(), found, strict=True):
            zero_point = 0 if zero is None else int(next(values).item())
            step_size = next(values).item() / (2 if is_doubled(multiply) else 1)
            if not 0 < step_size < np.inf:
                msg = f"{self.path}: the step size of quantizer {name!r} is {step_size}, and must be positive."
                raise ArtifactError(msg)
            low, high = code_limits(codes.get_node(), step_size, zero_point)
            is_full = (high - low + 1).bit_count() == 1 and low in (0, zero_point - (high - low + 1) // 2)
            is_narrowed = not is_full if narrowed is None else name in narrowed
            result[name] = ActivationGrid(low, high, zero_point, step_size, is_narrowed)
        return result

    def quantizers_feeding(self, layer: str) -> tuple[str, ...]:
        """Returns the quantizers that feed a layer; an empty one among them stands for floats."""
        sources = (source for node in self._layers[layer] for source in self._sources(node.input_value(0)))
        return tuple(dict.fromkeys(sources))

    def tap_outputs(self) -> dict[str, str]:
        """Returns quantizer to the name of the tensor with its codes."""
        return {name: name + CODES_SUFFIX for name in self.activations}

    def layers_before(self, name: str) -> list[str]:
        """Returns the layers that compute a tensor, from the codes of the quantizers in front of them."""
        outputs = (output for operation in self._model.get_ordered_ops() for output in operation.outputs())
        output = next(output for output in outputs if name in output.get_names())
        found = {weights for weights in codes_behind(output) if weights in self.weights}
        return [layer for layer in self.weights if layer in found]

    def _note(self, key: str) -> str | None:
        """What the exporter noted under ``key``, ``None`` if nothing."""
        path = key.split(".")
        return self._model.get_rt_info(path).astype(str) if self._model.has_rt_info(path) else None

    @cached_property
    def _layers(self) -> dict[str, list[Any]]:
        """The operations that read each layer's weights: several if it is called several times."""
        result = {}
        for name, codes in self._codes.items():
            found, open_outputs = [], [codes]
            while open_outputs:
                for reader in open_outputs.pop().get_target_inputs():
                    node = reader.get_node()
                    if node.get_type_name() in _LAYERS:
                        found.append(node)
                    elif node.get_type_name() != "ShapeOf":
                        open_outputs += node.outputs()
            if not found:
                msg = f"{self.path}: no layer reads the weights of {name!r}."
                raise ArtifactError(msg)
            result[name] = found
        return result

    def _dequantization(self, name: str, codes: Any) -> tuple[Any, Any, Any]:
        """Returns zero point (``None`` for 0), step size, and the Multiply by it, with which codes become real."""
        zero, doubled, readers = None, None, list(codes.get_target_inputs())
        while readers:
            reader = readers.pop(0)
            node = reader.get_node()
            kind = node.get_type_name()
            if kind == "Multiply":
                found = zero, node.input_value(1 - reader.get_index()), node
                if not is_doubled(node):
                    return found
                doubled = found
                continue
            if kind == "Subtract":
                zero = node.input_value(1)
            if kind != "ShapeOf":
                readers = [*node.output(0).get_target_inputs(), *readers]
        if doubled is not None:
            return doubled
        msg = f"{self.path}: no step size follows the codes of {name!r}."
        raise ArtifactError(msg)

    def _sources(self, output: Any) -> Iterator[str]:
        node, quantizers = output.get_node(), {name.removesuffix(CODES_SUFFIX) for name in output.get_names()}
        if known := quantizers & set(self._quantizers):
            yield known.pop()
        elif node.get_type_name() in _CARRIERS:
            yield from self._sources(node.input_value(0))
        elif node.get_type_name() in _MERGERS:
            for source in node.input_values()[1 if node.get_type_name() == "Select" else 0 :]:
                if not is_constant(source):
                    yield from self._sources(source)
        else:
            yield ""

    def _find_output_step_size(self) -> np.ndarray | None:
        output, is_scaled, is_moved = self._model.outputs[0].get_node().input_value(0), False, False
        while (node := output.get_node()).get_type_name() not in _LAYERS:
            codes = {name.removesuffix(CODES_SUFFIX) for name in output.get_names()} & set(self.activations)
            if codes:
                return np.asarray(self.activations[codes.pop()].step_size, np.float32)
            computed = [source for source in node.input_values() if not is_constant(source)]
            if node.get_type_name() not in (*_ON_GRID, "Multiply") or len(computed) != 1:
                return None
            if node.get_type_name() == "Multiply":
                # By 1 where ONNX has a Gemm; else it can only be the one that brings codes back to floats.
                factors = [source.get_node() for source in node.input_values() if is_constant(source)]
                is_scaled |= factors[0].get_type_name() != "Constant" or not (factors[0].data == 1).all()
            is_moved |= node.get_type_name() in ("Reshape", "Squeeze")
            output = computed[0]
        layers = [weights for weights in codes_behind(node.input_value(1)) if weights in self.weights]
        quantizers = self.quantizers_feeding(layers[0]) if len(layers) == 1 else ()
        if len(quantizers) != 1 or not quantizers[0] or is_scaled:
            return None
        steps = np.float32(self.activations[quantizers[0]].step_size) * self.weights[layers[0]].step_size
        dimensions = self._model.outputs[0].get_partial_shape()
        shape = [dimension.get_length() if dimension.is_static else 0 for dimension in dimensions]
        return steps_of_outputs(steps, shape, is_linear=node.get_type_name() == "MatMul", is_moved=is_moved)
