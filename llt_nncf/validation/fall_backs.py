"""What runs in integers beside the layers, and what an engine left in floats."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import onnx

from llt_nncf.validation.executed_graph import ExecutedNode

_POOLINGS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean")


def count_nodes(graph: onnx.GraphProto, nodes: Sequence[ExecutedNode]) -> dict[str, Any]:
    """
    Counts additions of two activations and poolings by how they were executed, and all nodes in floats by kind.

    :param graph: Of the exported file; a node that an engine fused into a neighbour counts as that one computes.
    :param nodes: What the engine executes.
    :return: ``additions`` and ``poolings`` with ``integer``, ``float`` and ``not_found``; ``float_nodes`` by kind.
    """
    variable = {value.name for value in graph.input}
    for node in graph.node:
        if variable & set(node.input):
            variable |= set(node.output)
    additions = [node.name for node in graph.node if node.op_type == "Add" and set(node.input) <= variable]
    poolings = [node.name for node in graph.node if node.op_type in _POOLINGS]
    is_integer = {name: node.is_integer for node in nodes for name in node.names}
    return {
        "additions": _count(additions, is_integer),
        "poolings": _count(poolings, is_integer),
        "float_nodes": dict(Counter(node.kind for node in nodes if not node.is_integer)),
    }


def _count(names: Sequence[str], is_integer: dict[str, bool]) -> dict[str, int]:
    words = {True: "integer", False: "float", None: "not_found"}
    found = Counter(words[is_integer.get(name)] for name in names)
    return {word: found[word] for word in words.values()}
