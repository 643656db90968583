"""What one engine makes of the exported file."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from llt_nncf.artifacts import Reference
from llt_nncf.errors import ValidationFailedError
from llt_nncf.errors import some_of
from llt_nncf.validation.compare import compare_codes
from llt_nncf.validation.compare import compare_logits
from llt_nncf.validation.compare import has_classes
from llt_nncf.validation.executed_graph import ExecutedNode
from llt_nncf.validation.executed_graph import kernels_of
from llt_nncf.validation.exported_ir import ExportedIr
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.fall_backs import count_nodes
from llt_nncf.validation.layer_by_layer import Engine
from llt_nncf.validation.layer_by_layer import check_layer_by_layer
from llt_nncf.validation.loadable import loadable
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from llt_nncf.validation.runners import Runner

ENGINES: tuple[Engine, ...] = (OnnxRuntimeRunner, OpenVinoRunner)


def check_engine(
    engine: Engine,
    exported: ExportedModel | ExportedIr,
    reference: Reference,
    *,
    min_agreement: float,
    batch_size: int,
) -> tuple[dict[str, Any], list[str], list[str]]:
    """
    Runs the file, then the copies of it that show the codes: end to end, and with every layer fed PyTorch's.

    :param engine: Which of the two.
    :param exported: The file that it runs.
    :param reference: What PyTorch computed.
    :param min_agreement: Share of equal top-1, 0 to 1.
    :param batch_size: Inputs in one run.
    :return: The figures, a sentence per fault, and a sentence per warning.
    :raises ValidationFailedError: If the engine cannot load or run the file.
    """
    runner: Runner = engine(exported.path)
    logits = run_batches(runner, reference.inputs, batch_size)
    figures, faults = compare_logits(logits, reference, exported.output_step_size)
    agreement = figures.get("agreement")
    if agreement is not None and agreement < min_agreement:
        faults.append(
            f"top-1 agrees with PyTorch for {agreement:.2%} of the samples; {min_agreement:.2%} are asked for"
        )
    warnings: list[str] = []
    if not has_classes(reference.logits):
        warnings.append("gives one output, so that there are no classes to compare; --data and --accuracy can judge it")
    nodes = runner.nodes()
    figures["nodes"] = count_nodes(exported.neighbours, nodes)
    figures["kernels"] = _kernels(nodes, exported)
    if not reference.taps:
        return figures, faults, [*warnings, "was not compared layer by layer: the reference has no codes"]
    codes = _codes(engine, exported, reference)
    figures["codes"], code_faults = compare_codes(codes, reference)
    faults += code_faults
    if figures["codes"]["first_difference"] is None and figures.get("max_difference_steps_of_taps", 0) >= 1:
        text = "computes PyTorch's codes when it is asked for them, but other outputs when it is not"
        warnings.append(f"{text}: it fuses the layers differently then")
    if not code_faults and logits.shape == reference.logits.shape:
        shapes = {name: found.shape[1:] for name, found in codes.items()}
        try:
            rows, layer_faults = check_layer_by_layer(engine, exported, reference, shapes)
        except ValidationFailedError as error:
            return figures, [*faults, f"layers cannot be compared one by one: {error}"], warnings
        figures["layer_by_layer"] = rows
        faults += layer_faults
        unproved = [name for name in rows["in_float"] if figures["kernels"][name]["is_integer"]]
        if unproved:
            text = f"runs {some_of(unproved, 3)} in floats when layers are fed one by one"
            warnings.append(f"{text}: that shows the grids to be right, but not the integer kernels")
    return figures, faults, warnings


def run_batches(runner: Runner, inputs: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns the outputs for all inputs."""
    starts = range(0, len(inputs), batch_size)
    return np.concatenate([runner.run(inputs[start : start + batch_size]) for start in starts])


def _kernels(nodes: Sequence[ExecutedNode], exported: ExportedModel | ExportedIr) -> dict[str, Any]:
    found = kernels_of(exported.weights, nodes)
    rows = {name: found.get(name, ("not found", None)) for name in exported.weights}
    return {name: {"kernel": kernel, "is_integer": is_integer} for name, (kernel, is_integer) in rows.items()}


def _codes(engine: Engine, exported: ExportedModel | ExportedIr, reference: Reference) -> dict[str, np.ndarray]:
    """Runs a copy of the engine's file that shows its codes; an engine may fuse it a little differently for that."""
    outputs = exported.tap_outputs()
    names = list(outputs.values())
    samples = reference.inputs[: reference.num_tap_samples]
    if not names:
        return {}
    if isinstance(exported, ExportedIr) or engine is OpenVinoRunner:
        runner: Runner = OpenVinoRunner(exported.path, extra_outputs=names)
    else:
        with loadable(exported.with_taps()) as model:
            runner = OnnxRuntimeRunner(model)
    # One by one, as they were recorded.
    results = zip(*(runner.run_outputs(sample[None], names) for sample in samples), strict=True)
    return {name: np.stack(codes) for name, codes in zip(outputs, results, strict=True)}
