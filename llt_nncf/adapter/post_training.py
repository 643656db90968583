"""NNCF's own post-training quantization to int8: the baseline that deployed files are compared with."""

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

import nncf
import numpy as np
from nncf.common.logging import nncf_logger

from llt_nncf.artifacts import write_atomically
from llt_nncf.errors import ExportError
from llt_nncf.export.model_files import read_onnx
from llt_nncf.export.model_files import read_openvino
from llt_nncf.export.model_files import save_openvino


def export_post_training(float_onnx_path: Path | str, samples: np.ndarray, path: Path | str) -> Path:
    """
    Quantizes a float model as ``nncf.quantize`` does it by default for a CPU, and saves it.

    :param float_onnx_path: Written by ``export_float_onnx``; has one input.
    :param samples: Inputs for calibration, shape ``(N, ...)``; NNCF itself takes 300 of them.
    :param path: An ``.onnx`` for ONNX Runtime, or an ``.xml`` for OpenVINO, whose ``.bin`` stands beside it: NNCF
        places quantizers differently in the two.
    :return: ``path``.
    :raises ExportError: If there is no sample, the name ends in something else, the model cannot be read, or NNCF
        cannot quantize it.
    """
    if not len(samples):
        msg = "Post-training quantization needs at least one sample to calibrate on."
        raise ExportError(msg)
    path, batches = Path(path), [sample[None] for sample in samples]
    if path.suffix == ".xml":
        return save_openvino(_quantize(read_openvino(float_onnx_path), batches, float_onnx_path), path)
    if path.suffix != ".onnx":
        msg = f"{path}: the name of the quantized file ends in .onnx, or in .xml for OpenVINO."
        raise ExportError(msg)
    proto = read_onnx(float_onnx_path)
    name = proto.graph.input[0].name
    quantized = _quantize(proto, [{name: batch} for batch in batches], float_onnx_path)
    return write_atomically(path, lambda temporary: temporary.write_bytes(quantized.SerializeToString()))


def _quantize(model: Any, batches: list[Any], source: Path | str) -> Any:
    level = nncf_logger.level
    nncf_logger.setLevel(logging.ERROR)
    try:
        # The progress bars go to the standard output.
        with contextlib.redirect_stdout(io.StringIO()):
            target = nncf.TargetDevice.CPU
            return nncf.quantize(model, nncf.Dataset(batches), target_device=target, subset_size=len(batches))
    except Exception as error:  # NNCF raises classes of its own, and the engines plain RuntimeError.
        msg = f"{source}: NNCF cannot quantize it after training: {error}"
        raise ExportError(msg) from error
    finally:
        nncf_logger.setLevel(level)
