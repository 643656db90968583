"""Whether activations have fewer than 8 bits, and what the other choice would give on this CPU."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx import numpy_helper

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.cost import layer_bitops
from llt_nncf.validation.bit_widths import weight_bits_needed
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.latency import ratio_figures
from llt_nncf.validation.latency import time_in_turns
from llt_nncf.validation.loadable import loadable
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from llt_nncf.validation.runners import Runner

WEIGHTS_ONLY = "weights only"
WEIGHTS_AND_ACTIVATIONS = "weights and activations"
_LOW_BITS = 4
_CPU_INFO = Path("/proc/cpuinfo")


def describe_target(
    exported: ExportedModel,
    policy: BitPolicy,
    table: LayerTable | None = None,
    *,
    sample: np.ndarray | None = None,
    rounds: int = 50,
) -> dict[str, Any]:
    """
    Compares the policy with its like that has the other bits for activations and the same weights.

    The other one is all activations at 8 bits, where the policy has fewer, and 4 bits at all layers but the fixed ones
    where it has 8 everywhere. Its time is that of the same ONNX file without the quantizers' clips, or with more of
    them; what it computes is not looked at. Without a table the first and the last layer count as fixed.

    :param exported: The file.
    :param policy: Its bits.
    :param table: With it there are BitOPs too.
    :param sample: One input; without it nothing is timed.
    :param rounds: Of file and variant in turns, one thread, OpenVINO in f32.
    :return: Section ``target`` of the report.
    :raises ValidationFailedError: If an engine cannot load or run the variant.
    """
    is_low = any(activation_bits < 8 for _, activation_bits in policy.bits.values())
    names = list(exported.weights)
    fixed = {*names[:1], *names[-1:]} if table is None else {x.name for x in table.layers if x.is_fixed}
    other = {name: 8 if is_low or name in fixed else _LOW_BITS for name in policy.bits}
    modes = (WEIGHTS_AND_ACTIVATIONS, WEIGHTS_ONLY)
    section: dict[str, Any] = {
        "mode": modes[0] if is_low else modes[1],
        "other": {"mode": modes[1] if is_low else modes[0], "activation_bits": 8 if is_low else _LOW_BITS},
        "layers_that_may_saturate": [n for n, x in exported.weights.items() if weight_bits_needed(x.codes) == 8],
        "has_vnni": has_vnni(),
    }
    if table is not None and all(layer.name in policy.bits for layer in table.layers):
        for target, bits in ((section, {n: a for n, (_, a) in policy.bits.items()}), (section["other"], other)):
            costs = (layer_bitops(layer, policy.bits[layer.name][0], bits[layer.name]) for layer in table.layers)
            target["gbitops"] = sum(costs) / 1e9
    if sample is not None:
        quantizers = {q for name in names if other.get(name) == _LOW_BITS for q in exported.quantizers_feeding(name)}
        kept = {q for name in fixed & set(names) for q in exported.quantizers_feeding(name)}
        variant = without_clips(exported.proto) if is_low else with_clips(exported.proto, quantizers - kept)
        with loadable(variant) as model:
            section["other"]["engines"] = _time(exported.path, model, sample, rounds)
    return section


def without_clips(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy whose activation quantizers give all codes of 8 bits."""
    model = _copy(model)
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in [node for node in model.graph.node if node.op_type == "Clip"]:
        quantize = producers.get(node.input[0])
        if quantize is not None and quantize.op_type == "QuantizeLinear":
            quantize.output[0] = node.output[0]
            model.graph.node.remove(node)
    return model


def with_clips(model: onnx.ModelProto, quantizers: Collection[str]) -> onnx.ModelProto:
    """Returns a copy in which those of the ``quantizers`` that give all codes of 8 bits are clipped to 4 bits."""
    model = _copy(model)
    zero_points = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if not tensor.dims}
    codes = {f"{quantizer}/codes" for quantizer in quantizers}
    for index, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "QuantizeLinear" or node.output[0] not in codes:
            continue
        low = max(0, int(zero_points[node.input[2]]) - 2 ** (_LOW_BITS - 1))
        limits = []
        for value in (low, low + 2**_LOW_BITS - 1):
            limits.append(f"{node.output[0]}/limit_{value}")
            model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.uint8), limits[-1]))
        clip = helper.make_node("Clip", [f"{node.output[0]}/all", *limits], [node.output[0]])
        node.output[0] = clip.input[0]
        model.graph.node.insert(index + 1, clip)
    return model


def has_vnni() -> bool | None:
    """Returns whether the CPU multiplies 8-bit integers without saturation, ``None`` where the system does not say."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", _CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return None if flags is None else bool({"avx512_vnni", "avx_vnni"} & set(flags[1].split()))


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _time(path: Path, variant: bytes | Path, sample: np.ndarray, rounds: int) -> dict[str, Any]:
    runners: dict[tuple[str, str], Runner] = {}
    for name, model in (("file", path), ("variant", variant)):
        runners["onnxruntime", name] = OnnxRuntimeRunner(model)
        runners["openvino", name] = OpenVinoRunner(model, input_shape=sample.shape)
    times = time_in_turns({key: runner.prepared(sample) for key, runner in runners.items()}, rounds=rounds)
    return {
        engine: ratio_figures("speed_up", times[engine, "file"], times[engine, "variant"])
        for engine in ("onnxruntime", "openvino")
    }
