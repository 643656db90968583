"""The few ways in which the lowering looks at an onnx-ir graph and edits it."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from llt_nncf.errors import ExportError


class ConstantPool:
    """
    Makes initializers, and gives equal values the same one.

    :param graph: Gets the initializers.
    """

    def __init__(self, graph: ir.Graph):
        self._graph = graph
        self._values: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def share(self, array: np.ndarray) -> ir.Value:
        """Returns the initializer that holds ``array``, made at its first use."""
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._values:
            self._values[key] = self.add(array, f"llt/constant_{len(self._values)}")
        return self._values[key]

    def add(self, array: np.ndarray, name: str) -> ir.Value:
        """
        Returns the initializer of that name.

        :raises ExportError: If the graph has another array of the same name.
        """
        known = constant(self._graph.initializers.get(name))
        if known is not None and known.dtype == array.dtype and np.array_equal(known, array):
            return self._graph.initializers[name]
        if known is not None:
            msg = f"Two constants of the exported file would be named {name!r}: give the layers different names."
            raise ExportError(msg)
        value = ir.Value(name=name, const_value=ir.tensor(np.array(array, order="C"), name=name))
        value.shape = ir.Shape(array.shape)
        value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        self._graph.register_initializer(value)
        return value


def constant(value: ir.Value | None) -> np.ndarray | None:
    """Returns the array of an initializer, or ``None`` if the value is missing or computed."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def producer(value: ir.Value | None, *op_types: str, domain: str = "") -> ir.Node | None:
    """Returns the node that computes ``value`` if it is one of these operators, else ``None``."""
    node = None if value is None else value.producer()
    return node if node is not None and is_op(node, *op_types, domain=domain) else None


def is_op(node: ir.Node, *op_types: str, domain: str = "") -> bool:
    """Whether a node is one of these operators."""
    return node.domain == domain and node.op_type in op_types


def is_only_read_by(value: ir.Value, node: ir.Node) -> bool:
    """Whether ``node`` is the only reader of ``value``, graph outputs included."""
    return not value.is_graph_output() and {use.node for use in value.uses()} == {node}


def attributes(node: ir.Node) -> dict[str, Any]:
    """Returns the attributes' plain values."""
    return {name: attribute.value for name, attribute in node.attributes.items()}


def insert_before(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    *,
    name: str,
    attributes: Mapping[str, Any] | None = None,
    domain: str = "",
) -> ir.Value:
    """Inserts a node with one output in front of ``node``; returns the output, which is named after the new node."""
    new = ir.node(op_type, inputs=list(inputs), attributes=attributes, name=name, domain=domain)
    node.prepend(new)
    new.outputs[0].name = f"{name}/output"
    return new.outputs[0]


def replace(node: ir.Node, value: ir.Value) -> None:
    """
    Lets ``value`` take the place of the only output of ``node``, and removes ``node``.

    A graph output keeps its name, by which callers fetch it.
    """
    old = node.outputs[0]
    if old.is_graph_output():
        name, old.name = old.name, f"{old.name}/replaced"
        value.name = name
    if value.shape is None:
        value.shape, value.type = old.shape, old.type
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    if node.graph is not None:
        node.graph.remove(node, safe=True)


def describe(node: ir.Node) -> str:
    """Returns the name and the operator of a node, for errors."""
    name = attributes(node).get("name") or node.name
    return f"{name!r} ({node.domain + '::' if node.domain else ''}{node.op_type})"
