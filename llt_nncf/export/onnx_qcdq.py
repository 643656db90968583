"""A frozen PyTorch model as standard ONNX that ONNX Runtime and OpenVINO run in integers."""

import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import Tensor
from torch import nn

import llt_nncf
from llt_nncf.artifacts import POLICY_KEY
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import write_atomically
from llt_nncf.errors import ExportError
from llt_nncf.export.activation_lowering import lower_activations
from llt_nncf.export.canonical_form import canonicalize
from llt_nncf.export.ir_graph import ConstantPool
from llt_nncf.export.ir_graph import describe
from llt_nncf.export.layer_lowering import lower_biases
from llt_nncf.export.layer_lowering import lower_weights
from llt_nncf.export.plain_tracing import plain_tracing
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight

# QCDQ needs 13; ReduceMean and Pad keep their axes in attributes up to here, and every runtime of today reads it.
_OPSET = 17
VERSION_KEY = "llt_nncf.version"

# A tuple may end in a dict of keyword arguments.
ExampleInput = Tensor | tuple[Any, ...]


def export_onnx(
    model: nn.Module,
    example_input: ExampleInput,
    path: Path | str,
    *,
    policy: BitPolicy | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Path:
    """
    Writes a frozen model as ONNX with int8 weights, uint8 activation codes and int32 biases.

    Only standard operators (opset 17). The codes of quantizer ``name`` are the tensor ``<name>/codes``, the weights of
    layer ``name`` the initializer ``<name>/codes``, and the node that reads them is named ``name``. The first dimension
    of inputs and outputs is free.

    :param model: Has ``FrozenWeight`` and ``FrozenActivationQuantizer`` modules; exported in evaluation mode.
    :param example_input: What ``model`` is called with, shape ``(N, ...)``, on the model's device; several arguments as
        a tuple, which may end in a dict of keyword arguments.
    :param path: The ``.onnx`` file; written whole or not at all.
    :param policy: Kept in the file's metadata as JSON, key ``llt_nncf.policy``.
    :param input_names: Names of the graph's inputs; ``input`` by default.
    :param output_names: Names of the graph's outputs; ``output`` by default.
    :return: ``path``.
    :raises ExportError: If the model cannot be written exactly; the node is named.
    """
    proto = _trace(model, example_input, input_names=input_names, output_names=output_names)
    lowered = lower_to_qcdq(ir.from_proto(proto))
    lowered.metadata_props[VERSION_KEY] = llt_nncf.__version__
    if policy is not None:
        lowered.metadata_props[POLICY_KEY] = json.dumps(policy.to_dict())
    return _write(ir.to_proto(lowered), path)


def export_float_onnx(
    model: nn.Module,
    example_input: ExampleInput,
    path: Path | str,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Path:
    """
    Writes a float model as plain ONNX: the baseline that latency is compared with.

    The parameters are those of ``export_onnx``.

    :raises ExportError: If the file would not be valid ONNX.
    """
    return _write(_trace(model, example_input, input_names=input_names, output_names=output_names), path)


def lower_to_qcdq(model: ir.Model) -> ir.Model:
    """
    Rewrites a model with ``llt`` nodes in place, and returns it.

    :param model: ``llt::Dequantize`` and ``llt::FakeQuantize`` nodes among standard ones.
    :raises ExportError: If an ``llt`` node cannot be written exactly.
    """
    constants = ConstantPool(model.graph)
    canonicalize(model, constants)
    lower_activations(model.graph, constants)
    lower_weights(model.graph, constants)
    lower_biases(model.graph, constants)
    left = [describe(node) for node in model.graph.all_nodes() if node.domain == "llt"]
    if left:
        msg = (
            f"No standard form is known for {', '.join(left)}. Quantizers inside loops and branches cannot be exported."
        )
        raise ExportError(msg)
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    _check_names(model.graph)
    return model


def _trace(
    model: nn.Module,
    example_input: ExampleInput,
    *,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> onnx.ModelProto:
    """Exports by tracing: models that NNCF's legacy tracing built cannot go through torch.export."""
    arguments = example_input if isinstance(example_input, tuple) else (example_input,)
    count = sum(len(item) if isinstance(item, dict) else 1 for item in arguments)
    inputs = list(input_names or (["input"] if count == 1 else [f"input_{i}" for i in range(count)]))
    outputs = list(output_names or ["output"])
    is_frozen = any(isinstance(module, FrozenWeight | FrozenActivationQuantizer) for module in model.modules())
    with warnings.catch_warnings(), torch.no_grad(), plain_tracing(), tempfile.TemporaryDirectory() as folder:
        traced = Path(folder) / "traced.onnx"
        # PyTorch would rather have us use the exporter that cannot take these models.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Constant folding - Only steps=1", UserWarning)
        try:
            torch.onnx.export(
                model,
                arguments,
                traced,
                dynamo=False,
                opset_version=_OPSET,
                custom_opsets={"llt": 1} if is_frozen else None,
                input_names=inputs,
                output_names=outputs,
                dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
            )
        except (torch.onnx.OnnxExporterError, AssertionError) as error:
            msg = f"PyTorch cannot export the model: {error}"
            raise ExportError(msg) from error
        return onnx.load(traced)


def _check_names(graph: ir.Graph) -> None:
    seen: set[str | None] = set(graph.initializers)
    for value in (value for node in graph for value in node.outputs if value.name):
        if value.name in seen:
            msg = (
                f"Two tensors of the exported file would be named {value.name!r}: give quantizers and layers different "
            )
            msg += "names."
            raise ExportError(msg)
        seen.add(value.name)


def _write(proto: onnx.ModelProto, path: Path | str) -> Path:
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        msg = f"{path}: the exported model is not valid ONNX: {error}"
        raise ExportError(msg) from error
    return write_atomically(path, lambda temporary: temporary.write_bytes(proto.SerializeToString()))
