"""Single tensors of an OpenVINO model: their values, the bounds of their codes, and what they are computed from."""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov

# Ends the name of every tensor of codes, behind the layer's or the quantizer's.
CODES_SUFFIX = "/codes"


def evaluate(outputs: Sequence[ov.Output]) -> list[np.ndarray]:
    """Computes outputs that depend on constants alone, as the engine does it when it loads the file."""
    if not outputs:
        return []
    computed = ov.Core().compile_model(ov.Model(list(outputs), []), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])
    return [computed[index].copy() for index in range(len(outputs))]


def code_limits(node: Any, step_size: float, zero_point: int) -> tuple[int, int]:
    """Returns the smallest and largest code that bounds leave, on the codes or, in front of the rounding, on reals."""
    low, high, is_real, is_clipped = 0, 255, False, False
    while (kind := node.get_type_name()) in ("Clamp", "Convert", "FakeQuantize", "Maximum", "Minimum", "PRelu"):
        sources = [value.get_node() for value in node.input_values()]
        bounds = [source.data.ravel() for source in sources if source.get_type_name() == "Constant"]
        if kind == "Clamp":
            bounds = [np.array([node.get_attributes()[end]]) for end in ("min", "max")]
        # A slope of 1 is the exporter's own and does nothing.
        if any(bound.size > 1 for bound in bounds) or (kind == "PRelu" and bounds[0] != 1):
            break
        # So is a Clip of this name, of which OpenVINO makes two nodes. Others in front of the rounding are the model's.
        was_clipped, is_clipped = is_clipped, node.get_friendly_name().endswith("/clipped")
        if is_real and kind in ("Clamp", "Maximum", "Minimum") and not (is_clipped or was_clipped):
            break
        grid = np.float32(step_size if is_real else 1)
        codes = [int(np.clip(np.rint(bound / grid) + is_real * zero_point, 0, 255)[0]) for bound in bounds]
        if kind in ("Clamp", "Maximum"):
            low = max(low, codes[0])
        if kind in ("Clamp", "Minimum"):
            high = min(high, codes[-1])
        is_real |= kind == "FakeQuantize"
        node = next(source for source in sources if source.get_type_name() != "Constant")
    return low, high


def codes_behind(output: ov.Output) -> Iterator[str]:
    """Yields the names in front of ``/codes`` that a tensor is computed from, as far as the next codes."""
    open_nodes, seen = [output.get_node()], set()
    while open_nodes:
        for source in open_nodes.pop().input_values():
            names = [name.removesuffix(CODES_SUFFIX) for name in source.get_names() if name.endswith(CODES_SUFFIX)]
            yield from names
            if not names and source.get_node().get_name() not in seen:
                seen.add(source.get_node().get_name())
                open_nodes.append(source.get_node())


def is_constant(output: ov.Output) -> bool:
    """Whether a tensor is computed from constants and shapes alone."""
    open_nodes = [output.get_node()]
    while open_nodes:
        node = open_nodes.pop()
        sources = [] if node.get_type_name() == "ShapeOf" else node.input_values()
        if not sources and node.get_type_name() not in ("Constant", "ShapeOf"):
            return False
        open_nodes += [source.get_node() for source in sources]
    return True


def is_doubled(multiply: Any) -> bool:
    """Whether it is the exporter's detour around faults of ONNX Runtime: twice the step size, halved right behind."""
    return multiply.get_friendly_name().endswith("/doubled")
