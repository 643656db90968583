"""
What the exporter wrote, brought into the form that integer kernels are recognised in; the function is unchanged.

Runs while the ``llt`` nodes are still there: constants are folded, identities go, pooling, padding, flattening and
linear layers get one form each.
"""

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes import common

from llt_nncf.export.ir_graph import ConstantPool
from llt_nncf.export.ir_graph import attributes
from llt_nncf.export.ir_graph import constant
from llt_nncf.export.ir_graph import insert_before
from llt_nncf.export.ir_graph import is_only_read_by
from llt_nncf.export.ir_graph import is_op
from llt_nncf.export.ir_graph import producer
from llt_nncf.export.ir_graph import replace

# Ops that keep all elements and their order: a quantizer may stand on either side.
_RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def canonicalize(model: ir.Model, constants: ConstantPool) -> None:
    """
    Rewrites the graph of ``model`` in place.

    :param model: As exported, with ``llt`` nodes.
    :param constants: Makes new initializers.
    """
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in list(model.graph):
        _drop_identity(node)
    _fold_constants(model, constants)
    common.ShapeInferencePass()(model)
    for rewrite in (_drop_identity_batch_norm, _pool_globally, _flatten, _merge_pad, _use_gemm, _quantize_early):
        for node in list(model.graph):
            rewrite(node)
    common.RemoveUnusedNodesPass()(model)


def _fold_constants(model: ir.Model, constants: ConstantPool) -> None:
    """Computes every standard node that has only constant inputs."""
    opsets = {"": model.opset_imports[""]}
    for node in list(model.graph):
        given = [value for value in node.inputs if value is not None]
        arrays = {str(value.name): array for value in given if (array := constant(value)) is not None}
        is_constant = given and len(arrays) == len({value.name for value in given})
        if node.domain or not is_constant or any(value.is_graph_output() for value in node.outputs):
            continue
        results = ReferenceEvaluator(ir.serde.serialize_node(node), opsets=opsets).run(None, arrays)
        for value, array in zip(node.outputs, results, strict=True):
            value.replace_all_uses_with(constants.share(np.asarray(array)))
        model.graph.remove(node, safe=True)


def _drop_identity(node: ir.Node) -> None:
    """Removes an Identity; not with onnx-ir's pass (1.0), which takes the outputs of an If's branches away, too."""
    if is_op(node, "Identity") and node.inputs[0] is not None and not node.outputs[0].is_graph_output():
        replace(node, node.inputs[0])


def _drop_identity_batch_norm(node: ir.Node) -> None:
    """Removes a BatchNormalization that was folded into its layer and does nothing any more."""
    if not is_op(node, "BatchNormalization"):
        return
    arrays = [constant(value) for value in node.inputs[1:5]]
    scale, shift, mean, variance = (np.nan if array is None else array.astype(np.float64) for array in arrays)
    gain = scale / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
    # The gain misses 1 by float32's rounding of 1 - epsilon. A NaN fails all three.
    if np.all(np.abs(gain - 1) < 1e-6) and np.all(shift == 0) and np.all(mean == 0) and node.inputs[0] is not None:
        replace(node, node.inputs[0])


def _pool_globally(node: ir.Node) -> None:
    """
    Writes a mean or maximum over all spatial dimensions, or a maximum over tokens, as a pooling.

    ONNX Runtime has an integer kernel for GlobalAveragePool. OpenVINO (2026.4.1) computes wrong codes where a quantizer
    follows a ReduceMax, or a GlobalMaxPool, behind an integer layer.
    """
    x = node.inputs[0] if is_op(node, "ReduceMean", "ReduceMax") else None
    if x is None or x.shape is None or len(x.shape) < 3:
        return
    shape, rank = x.shape, len(x.shape)
    # An attribute until opset 17, an input since 18.
    axes = attributes(node).get("axes") if len(node.inputs) < 2 else constant(node.inputs[1])
    axes = [] if axes is None else sorted(int(axis) % rank for axis in axes)
    over_tokens = node.op_type == "ReduceMax" and rank == 3 and axes == [1]
    if axes != list(range(2, rank)) and not over_tokens:
        return
    size = [shape[axis] for axis in axes]
    if node.op_type == "ReduceMean":
        pooled = insert_before(node, "GlobalAveragePool", [x], name=f"{node.name}/pool")
    elif all(isinstance(length, int) for length in size):
        x = _swap_last_two(node, x, f"{node.name}/channels_first") if over_tokens else x
        pooled = insert_before(node, "MaxPool", [x], name=f"{node.name}/pool", attributes={"kernel_shape": size})
    else:
        return
    kept = [shape[axis] for axis in range(rank) if axis not in axes]
    pooled.shape, pooled.type = ir.Shape([*kept, *[1] * len(axes)]), x.type
    if not attributes(node).get("keepdims", 1):
        pooled = insert_before(node, "Flatten", [pooled], name=f"{node.name}/flatten", attributes={"axis": 1})
    elif over_tokens:
        pooled = _swap_last_two(node, pooled, f"{node.name}/channels_last")
    replace(node, pooled)


def _swap_last_two(node: ir.Node, x: ir.Value, name: str) -> ir.Value:
    return insert_before(node, "Transpose", [x], name=name, attributes={"perm": [0, 2, 1]})


def _flatten(node: ir.Node) -> None:
    """Writes ``x.view(x.size(0), -1)`` as Flatten."""
    concat = producer(node.inputs[1], "Concat") if is_op(node, "Reshape") else None
    if concat is None or len(concat.inputs) != 2:
        return
    batch, rest = concat.inputs[0], constant(concat.inputs[1])
    while unsqueeze := producer(batch, "Unsqueeze"):
        batch = unsqueeze.inputs[0]
    gather = producer(batch, "Gather")
    shape = gather and producer(gather.inputs[0], "Shape")
    if gather is None or shape is None or shape.inputs[0] is not node.inputs[0]:
        return
    index = constant(gather.inputs[1])
    if index is not None and index.tolist() in (0, [0]) and rest is not None and rest.tolist() == [-1]:
        replace(
            node, insert_before(node, "Flatten", node.inputs[:1], name=f"{node.name}/flatten", attributes={"axis": 1})
        )


def _merge_pad(node: ir.Node) -> None:
    """Moves a zero Pad of the spatial dimensions into the convolution behind it."""
    pad = producer(node.inputs[0], "Pad") if is_op(node, "Conv") else None
    if pad is None or attributes(pad).get("mode", "constant") != "constant":
        return
    pads = constant(pad.inputs[1])
    fill = pad.inputs[2] if len(pad.inputs) > 2 else None
    fill_value = np.zeros(1) if fill is None else constant(fill)
    if pads is None or fill_value is None or attributes(node).get("auto_pad", "NOTSET") != "NOTSET":
        return
    begin, end = np.split(pads, 2)
    if fill_value.any() or begin[:2].any() or end[:2].any() or (pads < 0).any():
        return
    spatial = np.concatenate([begin[2:], end[2:]])
    total = spatial + np.asarray(attributes(node).get("pads", np.zeros_like(spatial)))
    node.attributes["pads"] = ir.AttrInt64s("pads", total.tolist())
    node.replace_input_with(0, pad.inputs[0])


def _use_gemm(node: ir.Node) -> None:
    """Writes a linear layer without bias as ``Gemm(transB=1)`` if its input has two dimensions."""
    transpose = producer(node.inputs[1], "Transpose") if is_op(node, "MatMul") else None
    weight = producer(transpose.inputs[0], "Dequantize", domain="llt") if transpose else None
    x = node.inputs[0]
    if weight is not None and x is not None and x.shape is not None and len(x.shape) == 2:
        name = node.name or weight.name or "Gemm"
        replace(node, insert_before(node, "Gemm", [x, weight.outputs[0]], name=name, attributes={"transB": 1}))


def _quantize_early(node: ir.Node) -> None:
    """
    Moves a quantizer in front of the reshapes before it, next to the op whose result it quantizes.

    ``x -> reshape -> quantize -> readers`` becomes ``x -> quantize -> reshape -> readers``.
    """
    while is_op(node, "FakeQuantize", domain="llt"):
        reshape = producer(node.inputs[0], *_RESHAPES)
        if reshape is None or not is_only_read_by(reshape.outputs[0], node):
            return
        early = insert_before(
            node,
            "FakeQuantize",
            [reshape.inputs[0], node.inputs[1]],
            name=node.name or "",
            attributes=node.attributes,
            domain="llt",
        )
        reshaped = insert_before(
            node,
            reshape.op_type,
            [early, *reshape.inputs[1:]],
            name=f"{reshape.name}/late",
            attributes=reshape.attributes,
        )
        replace(node, reshaped)
        node = early.producer() or node
