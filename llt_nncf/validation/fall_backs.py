"""What runs in integers beside the layers, and what an engine left in floats."""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from llt_nncf.validation.executed_graph import ExecutedNode


def count_nodes(neighbours: Mapping[str, Sequence[str]], nodes: Sequence[ExecutedNode]) -> dict[str, Any]:
    """
    Counts the layers' neighbours by how they were executed, and all nodes in floats by kind.

    :param neighbours: ``additions`` and ``poolings`` by name, as ``ExportedModel.neighbours`` has them; one that an
        engine fused into another node counts as that computes.
    :param nodes: What the engine executes.
    :return: For both how many are ``integer``, ``float`` and ``not_found``; ``float_nodes`` by the engine's kinds.
    """
    is_integer = {name: node.is_integer for node in nodes for name in node.names}
    words = {True: "integer", False: "float", None: "not_found"}
    result: dict[str, Any] = {}
    for kind, names in neighbours.items():
        found = Counter(words[is_integer.get(name)] for name in names)
        result[kind] = {word: found[word] for word in words.values()}
    return {**result, "float_nodes": dict(Counter(node.kind for node in nodes if not node.is_integer))}
