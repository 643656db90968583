"""Every layer by itself: fed with PyTorch's codes, it must compute PyTorch's codes."""

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from llt_nncf.artifacts import Reference
from llt_nncf.errors import some_of
from llt_nncf.validation.cut_model import FED_SUFFIX
from llt_nncf.validation.cut_model import cut_onnx
from llt_nncf.validation.cut_model import cut_openvino
from llt_nncf.validation.exported_ir import ExportedIr
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.loadable import loadable
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from llt_nncf.validation.runners import Runner

Engine = type[OnnxRuntimeRunner] | type[OpenVinoRunner]

# Of the largest output: float32 sums of 4608 products were off by up to 2**-20.9 of it, more than half a step where the
# sums are large.
_SUM_TOLERANCE = 2.0**-18
# The same for outputs that are on no known grid, such as those of a sigmoid, which each engine approximates.
_FUNCTION_TOLERANCE = 2.0**-10


def check_layer_by_layer(
    engine: Engine,
    exported: ExportedModel | ExportedIr,
    reference: Reference,
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[dict[str, Any], list[str]]:
    """
    Runs a copy of the engine's file that is cut at every quantizer and fed with PyTorch's codes.

    So a fault shows at the layer that has it, and a tie that an early layer rounds to the other side moves nothing
    behind it. A code may differ from PyTorch's at such ties only, and by one; outputs, which are floats, by half a step
    of the last layer's accumulator, or what float32 sums leave uncertain.

    :param engine: Which of the two.
    :param exported: The file that it runs.
    :param reference: What PyTorch computed; has taps.
    :param shapes: Quantizer to the shape of its codes in the file for one sample.
    :return: The figures with the first quantizer that is wrong, and a sentence if there is one.
    :raises ValidationFailedError: If the engine cannot run the cut model.
    """
    tensors = {name: exported.tap_outputs()[name] for name in reference.taps}
    wanted_outputs = [exported.output_name, *tensors.values()]
    with _cut_runner(engine, exported, {tensor: shapes[name] for name, tensor in tensors.items()}) as runner:
        samples = []
        for index, sample in enumerate(reference.inputs[: reference.num_tap_samples]):
            feed = {tensors[n] + FED_SUFFIX: codes[index].reshape(shapes[n]) for n, codes in reference.taps.items()}
            samples.append(runner.run_outputs({**feed, exported.input_name: sample[None]}, wanted_outputs))
        kernels = runner.kernels(list(exported.weights))
    output, *codes = (np.stack(arrays) for arrays in zip(*samples, strict=True))
    output = output.reshape(-1, *output.shape[2:])
    rows = {
        name: _compare(found, wanted, reference.ties.get(name))
        for (name, wanted), found in zip(reference.taps.items(), codes, strict=True)
    }
    wrong = [name for name, row in rows.items() if row["wrong"]]
    outputs = _compare_outputs(output, reference, exported.output_step_size)
    figures: dict[str, Any] = {key: sum(row[key] for row in rows.values()) for key in ("elements", "exact", "ties")}
    figures["ties_other_way"] = figures["elements"] - figures["exact"] - sum(row["wrong"] for row in rows.values())
    figures |= {"first_difference": None, "quantizers": rows, "outputs": outputs}
    figures["in_float"] = [name for name in exported.weights if kernels.get(name, ("", None))[1] is not True]
    if wrong:
        first, row = wrong[0], rows[wrong[0]]
        figures["first_difference"] = first
        text = f"{row['wrong']} of {row['elements']} codes of quantizer {first!r} are not PyTorch's, by up to "
        text += f"{row['max_difference_steps']} steps"
        return figures, [_word(exported, tensors[first], text, wrong[1:])]
    if outputs["wrong"]:
        figures["first_difference"] = exported.output_name
        text = (
            f"{outputs['wrong']} of {output.size} outputs are not PyTorch's, by up to {outputs['max_difference']:.4g}"
        )
        return figures, [_word(exported, exported.output_name, text, [])]
    return figures, []


@contextmanager
def _cut_runner(
    engine: Engine, exported: ExportedModel | ExportedIr, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Runner]:
    if engine is OpenVinoRunner:
        yield OpenVinoRunner(exported.path, edit=partial(cut_openvino, names=set(shapes)))
    elif isinstance(exported, ExportedModel):
        with loadable(cut_onnx(exported.proto, shapes)) as model:
            yield OnnxRuntimeRunner(model)


def _compare(found: np.ndarray, wanted: np.ndarray, ties: np.ndarray | None) -> dict[str, int]:
    difference = np.abs(found.reshape(wanted.shape).astype(np.int16) - wanted)
    allowed = np.zeros(wanted.shape, bool) if ties is None else ties
    return {
        "elements": wanted.size,
        "exact": int((difference == 0).sum()),
        "ties": int(allowed.sum()),
        "wrong": int((difference > allowed).sum()),
        "max_difference_steps": int(difference.max(initial=0)),
    }


def _compare_outputs(output: np.ndarray, reference: Reference, step_size: np.ndarray | None) -> dict[str, Any]:
    wanted = reference.logits[: reference.num_tap_samples].astype(np.float64)
    difference, largest = np.abs(output - wanted), np.abs(wanted).max(initial=0)
    if step_size is None:
        tolerance = _FUNCTION_TOLERANCE * largest
    else:
        half_steps = 0.5 * np.asarray(step_size, np.float64).reshape([1, -1] + [1] * (wanted.ndim - 2))
        tolerance = np.maximum(half_steps, _SUM_TOLERANCE * largest)
    # Written so that a NaN is wrong, and the report can be saved.
    wrong, largest = ~(difference <= tolerance), np.max(difference, where=np.isfinite(difference), initial=0)
    return {"max_difference": float(largest), "wrong": int(wrong.sum())}


def _word(exported: ExportedModel | ExportedIr, tensor: str, text: str, others: list[str]) -> str:
    layers = exported.layers_before(tensor)
    largest = max((int(np.abs(exported.weights[layer].codes.astype(np.int16)).max()) for layer in layers), default=0)
    culprits = f"layer {some_of([repr(layer) for layer in layers], 3)}: " if layers else ""
    behind = f"; so are codes of {some_of([repr(name) for name in others], 3)}" if others else ""
    # Sums of two products of a code and a weight up to 64 fit into the int16 that those CPUs add them in.
    hint = ". On a CPU without VNNI, weights of 8 bits saturate; those of 7 do not" if largest > 64 else ""
    return f"{culprits}{text}, when every layer is fed PyTorch's codes{behind}{hint}"
