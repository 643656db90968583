"""Integer weights and biases of layers as int8 and int32 initializers behind DequantizeLinear."""

from collections import Counter

import numpy as np
import onnx_ir as ir

from llt_nncf.errors import ExportError
from llt_nncf.export.ir_graph import ConstantPool
from llt_nncf.export.ir_graph import attributes
from llt_nncf.export.ir_graph import constant
from llt_nncf.export.ir_graph import describe
from llt_nncf.export.ir_graph import insert_before
from llt_nncf.export.ir_graph import is_op
from llt_nncf.export.ir_graph import producer
from llt_nncf.export.ir_graph import replace
from llt_nncf.functional.batch_norm_fold import INT32_MAX

# In steps of the bias grid. A float32 bias of n steps is off by up to n * 2**-24; sums of errors may be twice that.
_BIAS_TOLERANCE = 1e-2
_BIAS_RELATIVE_TOLERANCE = 2.0**-22


def lower_weights(graph: ir.Graph, constants: ConstantPool) -> dict[str, int]:
    """
    Writes every ``llt::Dequantize`` as an int8 initializer ``<layer name>/codes`` and DequantizeLinear.

    The node that reads it takes the layer's name; the second, third... call of the same layer in a forward pass is
    ``<layer name>#1``, ``<layer name>#2``.

    :param graph: Changed in place.
    :param constants: Makes new initializers.
    :return: Layer to the bit-width of its policy.
    :raises ExportError: If a layer's weights cannot be written exactly; it is named.
    """
    calls: Counter[str] = Counter()
    weight_bits = {}
    for node in list(graph):
        if is_op(node, "Dequantize", domain="llt"):
            name = str(attributes(node)["name"])
            weight_bits[name] = int(attributes(node)["num_bits"])
            _write_weights(node, constants, name, f"{name}#{calls[name]}" if calls[name] else name)
            calls[name] += 1
    return weight_bits


def lower_biases(graph: ir.Graph, constants: ConstantPool) -> None:
    """
    Writes the bias of every layer with quantized weights and input as int32 on the grid of its accumulator.

    :param graph: Changed in place; weights and activations are lowered already.
    :param constants: Makes new initializers.
    :raises ExportError: If a bias is not on its grid, or a layer's sums may exceed int32; the layer is named.
    """
    for node in list(graph):
        if is_op(node, "Conv", "ConvTranspose", "Gemm") and len(node.inputs) > 2:
            _write_bias(node, constants)
        if is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
            _check_accumulator(node)


def _write_weights(node: ir.Node, constants: ConstantPool, name: str, call: str) -> None:
    codes, step_size = (constant(value) for value in node.inputs)
    if codes is None or step_size is None:
        msg = f"{describe(node)}: the weights' codes and step sizes must be constants."
        raise ExportError(msg)
    if codes.dtype != np.int8 or not np.all((step_size > 0) & (step_size < np.inf)):
        msg = (
            f"{describe(node)}: weights need int8 codes and positive step sizes; got {codes.dtype}, {step_size.min()}."
        )
        raise ExportError(msg)
    axes = [axis for axis, size in enumerate(step_size.shape) if size > 1]
    if len(axes) > 1 or (axes and step_size.shape[axes[0]] != codes.shape[axes[0] - step_size.ndim]):
        msg = (
            f"{describe(node)}: step sizes of shape {step_size.shape} for codes of shape {codes.shape} are neither per "
        )
        msg += "tensor nor per channel."
        raise ExportError(msg)
    axis = axes[0] - step_size.ndim + codes.ndim if axes else None
    readers = [use.node for use in node.outputs[0].uses()]
    transposes = [reader for reader in readers if is_op(reader, "Transpose")]
    if len(readers) == 1 and transposes and codes.ndim == 2:
        # A linear layer whose input has more than two dimensions: MatMul takes the weights as (in, out).
        codes = codes.T
        node.outputs[0].shape = ir.Shape(codes.shape)
        axis = None if axis is None else 1 - axis
        replace(transposes[0], node.outputs[0])
    # QGemm needs the zero point to be there.
    scale = step_size.astype(np.float32).reshape(-1 if axes else ())
    inputs = [constants.add(codes, f"{name}/codes"), constants.share(scale)]
    inputs.append(constants.share(np.zeros(scale.shape, np.int8)))
    kwargs = {} if axis is None else {"axis": axis}
    value = insert_before(node, "DequantizeLinear", inputs, name=f"{call}/dequantize", attributes=kwargs)
    replace(node, value)
    layers = {use.node for use in value.uses() if is_op(use.node, "Conv", "ConvTranspose", "Gemm", "MatMul")}
    for layer in layers if len(layers) == 1 else ():
        layer.name = call


def _write_bias(node: ir.Node, constants: ConstantPool) -> None:
    x, weight = (producer(value, "DequantizeLinear") for value in node.inputs[:2])
    bias = constant(node.inputs[2])
    if x is None or weight is None or bias is None or bias.dtype != np.float32:
        return
    input_step, weight_step = (constant(dequantize.inputs[1]) for dequantize in (x, weight))
    if input_step is None or weight_step is None or bias.size % weight_step.size:
        return
    # A transposed convolution has one step size per channel of a group, for each of its groups.
    grid = np.tile(input_step * weight_step.ravel(), bias.size // weight_step.size)
    exact = bias.astype(np.float64).ravel() / grid.astype(np.float64)
    codes = np.rint(exact)
    excess = np.abs(exact - codes) - _BIAS_TOLERANCE - np.abs(codes) * _BIAS_RELATIVE_TOLERANCE
    if not np.all(excess <= 0) or np.abs(codes).max() > INT32_MAX:
        if weight.inputs[0] is not None and len(weight.inputs[0].uses()) > 1:
            return  # a layer whose calls have inputs of different grids: its bias stays a float
        excess = np.where(np.isfinite(excess) & (np.abs(codes) <= INT32_MAX), excess, np.inf)
        worst = int(np.argmax(excess))
        msg = (
            f"{describe(node)}: the bias of channel {worst} is {exact[worst]:.4f} steps of its int32 grid (input step "
        )
        msg += (
            "size x weight step size), and must be a whole number within int32. Freeze the model with biases rounded."
        )
        raise ExportError(msg)
    scale = constants.share(grid.astype(np.float32))
    inputs = [constants.add(codes.astype(np.int32), f"{node.name}/bias_codes"), scale]
    value = insert_before(node, "DequantizeLinear", inputs, name=f"{node.name}/bias_dequantize", attributes={"axis": 0})
    node.replace_input_with(2, value)


def _check_accumulator(node: ir.Node) -> None:
    """Refuses a layer whose largest possible sum does not fit into the int32 that integer kernels add it up in."""
    x, weight, bias = (producer(value, "DequantizeLinear") for value in [*node.inputs, None][:3])
    codes = constant(weight.inputs[0]) if weight else None
    if x is None or codes is None:
        return
    channel_dim = 1 if is_op(node, "ConvTranspose", "MatMul") else 0
    others = tuple(axis for axis in range(codes.ndim) if axis != channel_dim)
    zero_point, bias_codes = constant(x.inputs[2]), constant(bias.inputs[0]) if bias else None
    largest_code = 255 if zero_point is None else max(int(zero_point), 255 - int(zero_point))
    largest = int(np.abs(codes.astype(np.int64)).sum(axis=others).max()) * largest_code
    largest += 0 if bias_codes is None else int(np.abs(bias_codes.astype(np.int64)).max())
    if largest > INT32_MAX:
        msg = f"{describe(node)}: its sums may come to {largest:.3g} steps, and int32 holds {INT32_MAX}. Split the "
        msg += "layer, or give it fewer bits."
        raise ExportError(msg)
