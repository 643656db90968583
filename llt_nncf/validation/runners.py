"""ONNX Runtime and OpenVINO behind one interface."""

import re
import tempfile
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import Protocol

import numpy as np
import onnx
import onnxruntime
import openvino as ov

from llt_nncf.errors import ValidationFailedError

_INTEGER_OPS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger", "MatMulInteger")


class Runner(Protocol):
    """
    A model loaded into an engine.

    :param engine: Name of the engine.
    """

    engine: str

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Returns the first output for ``inputs``, shape ``(N, ...)``."""
        ...

    def run_outputs(self, inputs: np.ndarray | Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Returns the outputs of these names; several inputs go by their names."""
        ...

    def kernels(self, layers: Sequence[str]) -> dict[str, tuple[str, bool]]:
        """Returns layer to (kernel that executes it, whether it computes in integers); lost layers are left out."""
        ...


class OnnxRuntimeRunner:
    """
    ONNX Runtime on the CPU, with all of its graph optimizations.

    :param model: An ONNX file, or a serialized model.
    :param num_threads: Threads of one inference.
    :raises ValidationFailedError: If the engine cannot load the model.
    """

    engine = "onnxruntime"

    def __init__(self, model: Path | str | bytes, *, num_threads: int = 1):
        self._model = model if isinstance(model, bytes) else str(model)
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = num_threads
        self._options.log_severity_level = 3
        self._session = _guarded(self.engine, "load", self._load)

    def run(self, inputs: np.ndarray) -> np.ndarray:
        return self.run_outputs(inputs, [self._session.get_outputs()[0].name])[0]

    def run_outputs(self, inputs: np.ndarray | Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        feed = dict(inputs) if isinstance(inputs, Mapping) else {self._session.get_inputs()[0].name: inputs}
        return _guarded(self.engine, "run", lambda: self._session.run(list(names), feed))

    def kernels(self, layers: Sequence[str]) -> dict[str, tuple[str, bool]]:
        """
        Reads the optimized graph.

        The initializer ``<layer>/codes`` survives optimization; node names do not (``<layer>_token_7``). The layer is
        the op that reads the initializer, through the DequantizeLinear that ONNX Runtime leaves if it cannot fuse. If
        it has folded that into floats, the node's name is what is left to go by.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimized.onnx"
            self._options.optimized_model_filepath = str(path)
            _guarded(self.engine, "load", self._load)
            self._options.optimized_model_filepath = ""
            nodes = onnx.load(path, load_external_data=False).graph.node
        readers = {name: node for node in nodes for name in node.input}
        by_name = {re.sub(r"_token_\d+$", "", node.name): node for node in nodes}
        result = {}
        for layer in layers:
            node = readers.get(f"{layer}/codes")
            while node is not None and node.op_type in ("DequantizeLinear", "Transpose", "Cast"):
                node = readers.get(node.output[0])
            node = node or by_name.get(layer)
            if node is not None:
                result[layer] = (node.op_type, node.op_type in _INTEGER_OPS)
        return result

    def _load(self) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(self._model, self._options, providers=["CPUExecutionProvider"])


class OpenVinoRunner:
    """
    OpenVINO's CPU plugin.

    :param model: An ``.xml`` or ``.onnx`` file, or a serialized ONNX model.
    :param num_threads: Threads of one inference.
    :param precision: Of what is not integer. OpenVINO's own default (``None``) is bf16 on CPUs that have it, whose 8
        bits of mantissa cannot hold the integers of a comparison step by step: hence f32.
    :param input_shape: Fixes the shape of the input, for latency.
    :param extra_outputs: Names of tensors in mid-graph that ``run_outputs`` can return too.
    :param edit: Changes the model, as it was read, before it is compiled.
    :param is_profiled: Has the engine note the time of every kernel, for ``executed_nodes``.
    :raises ValidationFailedError: If the engine cannot load the model.
    """

    engine = "openvino"

    def __init__(
        self,
        model: Path | str | bytes,
        *,
        num_threads: int = 1,
        precision: str | None = "f32",
        input_shape: Sequence[int] | None = None,
        extra_outputs: Sequence[str] = (),
        edit: Callable[[ov.Model], object] | None = None,
        is_profiled: bool = False,
    ):
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": num_threads, "PERFORMANCE_HINT": "LATENCY"}
        if is_profiled:
            options["PERF_COUNT"] = True
        if precision is not None:
            options["INFERENCE_PRECISION_HINT"] = precision

        def load() -> Any:
            core = ov.Core()
            network = core.read_model(model if isinstance(model, bytes) else str(model))
            if extra_outputs:
                network.add_outputs(list(extra_outputs))
            if edit is not None:
                edit(network)
            if input_shape is not None:
                network.reshape(list(input_shape))
            return core.compile_model(network, "CPU", options)

        self._compiled = _guarded(self.engine, "load", load)
        self._request = self._compiled.create_infer_request()

    def run(self, inputs: np.ndarray) -> np.ndarray:
        return _guarded(self.engine, "run", lambda: self._request.infer([inputs])[0].copy())

    def run_outputs(self, inputs: np.ndarray | Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        feed = dict(inputs) if isinstance(inputs, Mapping) else [inputs]
        results = _guarded(self.engine, "run", lambda: self._request.infer(feed))
        return [results[self._compiled.output(name)].copy() for name in names]

    def executed_nodes(self) -> list[tuple[str, str, str, float]]:
        """
        Returns name, kind, kernel and milliseconds of every node of a profiled model that ``run`` executed last.

        Told by its kernel: what was fused into a neighbour has none. By the engine's own status, a kernel that took
        less than a microsecond was not run.
        """
        return [
            (node.node_name, node.node_type, node.exec_type, node.real_time.total_seconds() * 1e3)
            for node in self._request.get_profiling_info()
            if not node.exec_type.startswith(("undef", "unknown"))
        ]

    def kernels(self, layers: Sequence[str]) -> dict[str, tuple[str, bool]]:
        """
        Reads the executed graph.

        Its nodes list the names of the ONNX nodes that they are made of, among them ``<layer>``, or
        ``<layer>/WithoutBiases`` where the bias went elsewhere. One that computes a graph output goes by the name of
        that output, but the constant that it reads is still ``<layer>/codes``.
        """
        result: dict[str, tuple[str, bool]] = {}
        for operation in self._compiled.get_runtime_model().get_ordered_ops():
            kind, kernel, precision, names = _executed(operation)
            if kind not in ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "GroupConvolution"):
                continue
            names |= _names_of_weights(operation)
            for layer in {re.sub("/(WithoutBiases|codes)$", "", name) for name in names} & set(layers):
                is_integer = precision in ("u8", "i8") or kernel.lower().endswith(("i8", "u8"))
                result[layer] = (f"{kind} {kernel}", is_integer)
        return result


def _executed(operation: Any) -> tuple[str, str, str, set[str]]:
    info = operation.get_rt_info()
    keys = ("layerType", "primitiveType", "runtimePrecision", "originalLayersNames")
    kind, kernel, precision, names = (info[key].astype(str) if key in info else "" for key in keys)
    return kind, kernel, precision, set(names.split(","))


def _names_of_weights(operation: Any) -> set[str]:
    """Names of the constant that is a layer's second input, possibly reordered on the way."""
    source = operation.input_value(1).get_node() if operation.get_input_size() > 1 else None
    while (
        source is not None and source.get_input_size() and _executed(source)[0] in ("Reorder", "Reshape", "Transpose")
    ):
        source = source.input_value(0).get_node()
    return set() if source is None else _executed(source)[3] | {source.get_friendly_name()}


def _guarded(engine: str, verb: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # The engines raise classes of their own, most of them plain RuntimeError.
        msg = f"{engine} cannot {verb} the model: {str(error).strip()[:500]}"
        raise ValidationFailedError(msg) from error
