"""What every layer takes on this CPU at each pair of bits: a cost table for the search."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import Layer
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ValidationFailedError
from llt_nncf.errors import ValidationOptionError
from llt_nncf.errors import some_of
from llt_nncf.validation.runners import OpenVinoRunner
from llt_nncf.validation.single_layer import FORMS
from llt_nncf.validation.single_layer import SECOND_READER
from llt_nncf.validation.single_layer import SingleLayer
from llt_nncf.validation.single_layer import cut_out_layers
from llt_nncf.validation.single_layer import single_layer_model

_WARM_UP_ROUNDS = 5
_AROUND = ("Input", "Output", "Const", "Constant", "Parameter", "Result", "Reorder")


@dataclass(frozen=True)
class _Measured:
    """
    One form of a layer.

    :param kernel: What the engine executed.
    :param ms: Median over the rounds.
    """

    kernel: str
    ms: float


def measure_layers(table: LayerTable, onnx_path: Path | str, *, rounds: int = 30, num_threads: int = 1) -> CostTable:
    """
    Runs each layer by itself in OpenVINO, and takes the time of its kernel from the engine's own counters.

    An exported model holds every quantizer in 8-bit containers, so that a layer is executed in one of two forms, for
    8-bit inputs and for narrower ones, whose codes are clipped first; the bits of the weights make no difference. Both
    are measured, and float for comparison, in turns. What converts the single layer's input and output is left out:
    inside a model the neighbours' layouts agree. In the clipped form the clip stands by itself, while in a model the
    layer before it often takes it over: an upper bound.

    :param table: The layers with their candidates.
    :param onnx_path: A model that has them, exported by this package or by PyTorch.
    :param rounds: At least 1.
    :param num_threads: Of one inference.
    :return: In ms. Its ``details`` have engine, CPU, and for every layer which pairs share which kernel.
    :raises ValidationFailedError: If a layer is not in the model, or the engine cannot run one.
    :raises ValidationOptionError: If ``rounds`` is below 1.
    """
    if rounds < 1:
        msg = f"rounds={rounds} must be at least 1."
        raise ValidationOptionError(msg)
    layers = cut_out_layers(onnx_path, set(table.by_name))
    missing = [name for name in table.by_name if name not in layers]
    if missing:
        msg = (
            f"{onnx_path} has no layers {some_of(missing, 6)}. Give the model that the indicators were trained for, as "
            "this package or PyTorch exports it."
        )
        raise ValidationFailedError(msg)
    costs, details = {}, {}
    for layer in table.layers:
        measured = _measure(layers[layer.name], rounds, num_threads)
        form_of = {pair: _form(pair[1]) for pair in product(layer.weight_bits, layer.activation_bits)}
        costs[layer.name] = {pair: measured[form].ms for pair, form in form_of.items()}
        details[layer.name] = _details(layer, measured, form_of)
    core = ov.Core()
    engine, cpu = f"OpenVINO {ov.get_version()}", str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
    source = f"{engine} on {cpu}, {num_threads} threads, one sample, median of {rounds}, layer by layer"
    return CostTable("latency", "ms", costs, source, {"engine": engine, "cpu": cpu, "layers": details})


def _form(activation_bits: int) -> str:
    return "int8" if activation_bits == 8 else "int8 clamped"


def _details(layer: Layer, measured: Mapping[str, _Measured], form_of: Mapping[tuple[int, int], str]) -> dict[str, Any]:
    executed = [
        {
            "kernel": measured[form].kernel,
            "ms": measured[form].ms,
            "pairs": [f"w{w}a{a}" for (w, a), own in form_of.items() if own == form],
        }
        for form in dict.fromkeys(form_of.values())
    ]
    return {"executed": executed, "float": {"kernel": measured["float"].kernel, "ms": measured["float"].ms}}


def _measure(layer: SingleLayer, rounds: int, num_threads: int) -> dict[str, _Measured]:
    runners = {
        form: OpenVinoRunner(single_layer_model(layer, form), num_threads=num_threads, is_profiled=True)
        for form in FORMS
    }
    codes = np.random.default_rng(0).integers(0, 256, layer.input_shape).astype(np.uint8)
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for round_number in range(-_WARM_UP_ROUNDS, rounds):
        for form, runner in runners.items():
            runner.run(codes.astype(np.float32) if form == "float" else codes)
            if round_number >= 0:
                times[form].append(sum(ms for _, ms in _kernels(runner)))
    return {
        form: _Measured(" + ".join(kernel for kernel, _ in _kernels(runner)), round(float(np.median(times[form])), 4))
        for form, runner in runners.items()
    }


def _kernels(runner: OpenVinoRunner) -> list[tuple[str, float]]:
    """Kernel and milliseconds of what a layer consists of inside a model: no inputs, outputs and changes of layout."""
    return [
        (f"{kind} {kernel}", ms)
        for name, kind, kernel, ms in runner.executed_nodes()
        if kind not in _AROUND and not name.startswith(SECOND_READER)
    ]
