"""A frozen PyTorch model as standard ONNX that ONNX Runtime and OpenVINO run in integers."""

import json
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import Tensor
from torch import nn

import llt_nncf
from llt_nncf.artifacts import DIGEST_KEY
from llt_nncf.artifacts import POLICY_KEY
from llt_nncf.artifacts import VERSIONS_KEY
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import graph_digest
from llt_nncf.errors import ExportError
from llt_nncf.export.activation_lowering import lower_activations
from llt_nncf.export.canonical_form import canonicalize
from llt_nncf.export.ir_graph import ConstantPool
from llt_nncf.export.ir_graph import describe
from llt_nncf.export.layer_lowering import lower_biases
from llt_nncf.export.layer_lowering import lower_weights
from llt_nncf.export.model_files import save_onnx
from llt_nncf.export.packing import pack_weights
from llt_nncf.export.plain_tracing import plain_tracing
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight
from llt_nncf.quantizers import llt_nodes

# QCDQ with step sizes per channel needs the first; PyTorch's exporter knows up to the last.
_OPSETS = range(13, 21)
# Tried in turn: what every runtime of today reads, and what some operators need.
_AUTOMATIC_OPSETS = (17, 18, 20)
# Their versions are kept in the file.
_MAKERS = ("torch", "nncf", "onnx", "onnx-ir")

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
    packed: bool = False,
    opset: int | None = None,
) -> Path:
    """
    Writes a frozen model as ONNX with int8 weights, uint8 activation codes and int32 biases.

    Only standard operators. The codes of quantizer ``name`` are the tensor ``<name>/codes``, the int8 weights of layer
    ``name`` too, and the node that reads them is named ``name``. The first dimension of inputs and outputs is free.
    Above 2 GB the data is in a second file, ``<path>.data``.

    :param model: Has ``FrozenWeight`` and ``FrozenActivationQuantizer`` modules; exported in evaluation mode.
    :param example_input: What ``model`` is called with, shape ``(N, ...)``, on the model's device; several arguments as
        a tuple, which may end in a dict of keyword arguments.
    :param path: The ``.onnx`` file; written whole or not at all.
    :param policy: Kept in the file's metadata as JSON, key ``llt_nncf.policy``, beside the versions of the packages
        that wrote the file and a digest of the graph.
    :param input_names: Names of the graph's inputs; ``input`` by default.
    :param output_names: Names of the graph's outputs; ``output`` by default.
    :param packed: Stores the weights at their bits. The engines unpack them when they load the file, and compute the
        same as from an unpacked one, in the same kernels.
    :param opset: 13 to 20; by default 17, or the next in which PyTorch can export the model.
    :return: ``path``.
    :raises ExportError: If the model cannot be written exactly; the node is named.
    """
    traced = _trace(model, example_input, input_names=input_names, output_names=output_names, opset=opset)
    proto = ir.to_proto(lower_to_qcdq(ir.from_proto(traced), packed=packed))
    metadata = {VERSIONS_KEY: json.dumps(_versions()), DIGEST_KEY: graph_digest(proto.graph)}
    if policy is not None:
        metadata[POLICY_KEY] = json.dumps(policy.to_dict())
    onnx.helper.set_model_props(proto, metadata)
    return save_onnx(proto, path)


def export_float_onnx(
    model: nn.Module,
    example_input: ExampleInput,
    path: Path | str,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset: int | None = None,
) -> Path:
    """
    Writes a float model as plain ONNX: the baseline that latency is compared with.

    The parameters are those of ``export_onnx``.

    :raises ExportError: If the file would not be valid ONNX.
    """
    return save_onnx(
        _trace(model, example_input, input_names=input_names, output_names=output_names, opset=opset), path
    )


def lower_to_qcdq(model: ir.Model, *, packed: bool = False) -> ir.Model:
    """
    Rewrites a model with ``llt`` nodes in place, and returns it.

    :param model: ``llt::Dequantize`` and ``llt::FakeQuantize`` nodes among standard ones.
    :param packed: Whether weights are stored at their bits.
    :raises ExportError: If an ``llt`` node cannot be written exactly.
    """
    constants = ConstantPool(model.graph)
    canonicalize(model, constants)
    lower_activations(model.graph, constants)
    weight_bits = lower_weights(model.graph, constants)
    lower_biases(model.graph, constants)
    if packed:
        pack_weights(model.graph, constants, weight_bits)
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
    opset: int | None,
) -> onnx.ModelProto:
    """Exports by tracing: models that NNCF's legacy tracing built cannot go through torch.export."""
    if opset is not None and opset not in _OPSETS:
        msg = f"opset={opset}: must be {_OPSETS[0]} to {_OPSETS[-1]}; leave it out for the one that fits."
        raise ExportError(msg)
    arguments = example_input if isinstance(example_input, tuple) else (example_input,)
    count = sum(len(item) if isinstance(item, dict) else 1 for item in arguments)
    inputs = list(input_names or (["input"] if count == 1 else [f"input_{i}" for i in range(count)]))
    outputs = list(output_names or ["output"])
    is_frozen = any(isinstance(module, FrozenWeight | FrozenActivationQuantizer) for module in model.modules())
    options: dict[str, Any] = {
        "dynamo": False,
        "custom_opsets": {"llt": 1} if is_frozen else None,
        "input_names": inputs,
        "output_names": outputs,
        "dynamic_axes": {name: {0: "batch"} for name in (*inputs, *outputs)},
    }
    with (
        warnings.catch_warnings(),
        torch.no_grad(),
        plain_tracing(),
        llt_nodes(),
        tempfile.TemporaryDirectory() as folder,
    ):
        # PyTorch would rather have us use the exporter that cannot take these models.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Constant folding - Only steps=1", UserWarning)
        for opset_version in _AUTOMATIC_OPSETS if opset is None else (opset,):
            traced = Path(folder) / f"opset_{opset_version}.onnx"
            try:
                torch.onnx.export(model, arguments, traced, opset_version=opset_version, **options)
                return onnx.load(traced)
            except torch.onnx.errors.UnsupportedOperatorError as error:
                unsupported = error
            except (torch.onnx.OnnxExporterError, AssertionError) as error:
                msg = f"PyTorch cannot export the model: {error}"
                raise ExportError(msg) from error
    msg = f"PyTorch cannot export the model: {unsupported}"
    raise ExportError(msg) from unsupported


def _versions() -> dict[str, str]:
    versions = {"llt_nncf": llt_nncf.__version__}
    for package in _MAKERS:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


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
