"""ONNX Runtime and OpenVINO behind one interface."""

import tempfile
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from typing import Protocol

import numpy as np
import onnx
import onnxruntime
import openvino as ov

from llt_nncf.errors import ValidationFailedError
from llt_nncf.validation.executed_graph import ExecutedNode
from llt_nncf.validation.executed_graph import kernels_of
from llt_nncf.validation.executed_graph import onnxruntime_nodes
from llt_nncf.validation.executed_graph import openvino_nodes


class Runner(Protocol):
    """
    A model loaded into an engine.

    :param engine: Name of the engine.
    """

    engine: str

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Returns the first output for ``inputs``, shape ``(N, ...)``."""
        ...

    def run_outputs(self, inputs: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        """Returns the outputs of these names."""
        ...

    def prepared(self, inputs: np.ndarray, count: int = 1) -> Callable[[], object]:
        """Returns a call that runs ``inputs``, handed over once, ``count`` times in every stream: for timing."""
        ...

    def settings(self) -> dict[str, Any]:
        """Returns ``num_streams``, ``num_threads`` of all of them, and ``inference_precision`` of what is float."""
        ...

    def nodes(self) -> list[ExecutedNode]:
        """Returns what the engine executes."""
        ...

    def kernels(self, layers: Sequence[str]) -> dict[str, tuple[str, bool]]:
        """Returns layer to (kernel that executes it, whether it computes in integers); lost layers are left out."""
        ...


class OnnxRuntimeRunner:
    """
    ONNX Runtime on the CPU, with all of its graph optimizations.

    :param model: An ONNX file, or a serialized model.
    :param num_threads: Threads of one inference.
    :param num_streams: Inferences at once in ``prepared``, each called from a thread of its own.
    :raises ValidationFailedError: If the engine cannot load the model.
    """

    engine = "onnxruntime"

    def __init__(self, model: Path | str | bytes, *, num_threads: int = 1, num_streams: int = 1):
        self._num_threads, self._num_streams = num_threads, num_streams
        self._model = model if isinstance(model, bytes) else str(model)
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = num_threads
        self._options.log_severity_level = 3
        self._session = _guarded(self.engine, "load", self._load)

    def run(self, inputs: np.ndarray) -> np.ndarray:
        return self.run_outputs(inputs, [self._session.get_outputs()[0].name])[0]

    def run_outputs(self, inputs: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        feed = {self._session.get_inputs()[0].name: inputs}
        return _guarded(self.engine, "run", lambda: self._session.run(list(names), feed))

    def prepared(self, inputs: np.ndarray, count: int = 1) -> Callable[[], object]:
        bindings = []
        for _ in range(self._num_streams):
            binding = self._session.io_binding()
            binding.bind_cpu_input(self._session.get_inputs()[0].name, inputs)
            binding.bind_output(self._session.get_outputs()[0].name)
            bindings.append(binding)

        def run(binding: Any) -> None:
            for _ in range(count):
                self._session.run_with_iobinding(binding)

        _guarded(self.engine, "run", lambda: run(bindings[0]))
        if self._num_streams == 1:
            return lambda: run(bindings[0])
        callers = ThreadPoolExecutor(self._num_streams)
        return lambda: list(callers.map(run, bindings))

    def settings(self) -> dict[str, Any]:
        num_threads = self._num_threads * self._num_streams
        return {"num_streams": self._num_streams, "num_threads": num_threads, "inference_precision": "f32"}

    def nodes(self) -> list[ExecutedNode]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimized.onnx"
            self._options.optimized_model_filepath = str(path)
            _guarded(self.engine, "load", self._load)
            self._options.optimized_model_filepath = ""
            return onnxruntime_nodes(onnx.load(path, load_external_data=False).graph)

    def kernels(self, layers: Sequence[str]) -> dict[str, tuple[str, bool]]:
        return kernels_of(layers, self.nodes())

    def _load(self) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(self._model, self._options, providers=["CPUExecutionProvider"])


class OpenVinoRunner:
    """
    OpenVINO's CPU plugin.

    :param model: An ``.xml`` or ``.onnx`` file, or a serialized ONNX model.
    :param num_threads: Threads of all inferences together; ``None`` leaves them to the engine.
    :param hint: ``LATENCY``, or ``THROUGHPUT``, with which the engine chooses a number of streams for ``prepared``.
    :param precision: Of what is not integer. OpenVINO's own default (``None``) is bf16 on CPUs that have it, whose 8
        bits of mantissa cannot hold the integers of a comparison step by step: hence f32.
    :param input_shape: Fixes the shape of the input, for latency.
    :param extra_outputs: Names of tensors in mid-graph that ``run_outputs`` can return too.
    :param is_profiled: Has the engine note the time of every kernel, for ``executed_nodes``.
    :raises ValidationFailedError: If the engine cannot load the model.
    """

    engine = "openvino"

    def __init__(
        self,
        model: Path | str | bytes,
        *,
        num_threads: int | None = 1,
        hint: str = "LATENCY",
        precision: str | None = "f32",
        input_shape: Sequence[int] | None = None,
        extra_outputs: Sequence[str] = (),
        is_profiled: bool = False,
    ):
        options: dict[str, Any] = {"PERFORMANCE_HINT": hint}
        if num_threads is not None:
            options["INFERENCE_NUM_THREADS"] = num_threads
        if is_profiled:
            options["PERF_COUNT"] = True
        if precision is not None:
            options["INFERENCE_PRECISION_HINT"] = precision

        def load() -> Any:
            core = ov.Core()
            network = core.read_model(model if isinstance(model, bytes) else str(model))
            if extra_outputs:
                network.add_outputs(list(extra_outputs))
            if input_shape is not None:
                network.reshape(list(input_shape))
            return core.compile_model(network, "CPU", options)

        self._compiled = _guarded(self.engine, "load", load)
        self._request = self._compiled.create_infer_request()

    def run(self, inputs: np.ndarray) -> np.ndarray:
        return _guarded(self.engine, "run", lambda: self._request.infer([inputs])[0].copy())

    def run_outputs(self, inputs: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        results = _guarded(self.engine, "run", lambda: self._request.infer([inputs]))
        return [results[self._compiled.output(name)].copy() for name in names]

    def prepared(self, inputs: np.ndarray, count: int = 1) -> Callable[[], object]:
        queue = ov.AsyncInferQueue(self._compiled)
        for request in queue:
            request.set_input_tensor(ov.Tensor(inputs))

        def run() -> None:
            if len(queue) == 1:
                for _ in range(count):
                    queue[0].infer(share_outputs=True)
                return
            for _ in range(count * len(queue)):
                queue.start_async()
            queue.wait_all()

        _guarded(self.engine, "run", run)
        return run

    def settings(self) -> dict[str, Any]:
        names = {
            "num_streams": "NUM_STREAMS",
            "num_threads": "INFERENCE_NUM_THREADS",
            "inference_precision": "INFERENCE_PRECISION_HINT",
        }
        found = {key: self._compiled.get_property(name) for key, name in names.items()}
        return {**found, "inference_precision": found["inference_precision"].get_type_name()}

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

    def nodes(self) -> list[ExecutedNode]:
        return openvino_nodes(self._compiled.get_runtime_model())

    def kernels(self, layers: Sequence[str]) -> dict[str, tuple[str, bool]]:
        return kernels_of(layers, self.nodes())


def _guarded(engine: str, verb: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # The engines raise classes of their own, most of them plain RuntimeError.
        msg = f"{engine} cannot {verb} the model: {str(error).strip()[:500]}"
        raise ValidationFailedError(msg) from error
