"""
OpenVINO's format straight from the frozen PyTorch model, without ONNX in between: the way not taken by default.

It runs the same kernels as fast (``benchmarks/deploy.py``), but OpenVINO leaves out roundings in front of residual
additions, and as its reader loses the names of layers and quantizers, nothing can be packed, compared with PyTorch
layer by layer, or read back.
"""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openvino as ov
import torch
from torch import Tensor
from torch import nn

from llt_nncf.errors import ExportError
from llt_nncf.export.model_files import save_openvino
from llt_nncf.functional import dequantize
from llt_nncf.functional import integer_range
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight


def export_openvino_directly(model: nn.Module, example_input: Tensor, xml_path: Path | str) -> Path:
    """
    Converts a frozen model by OpenVINO's PyTorch reader.

    :param model: Has ``FrozenWeight`` and ``FrozenActivationQuantizer`` modules; in evaluation mode.
    :param example_input: What ``model`` is called with, shape ``(N, ...)``.
    :param xml_path: Ends in ``.xml``; the ``.bin`` stands beside it.
    :return: ``xml_path``.
    :raises ExportError: If OpenVINO cannot convert the model.
    """
    try:
        with _in_standard_operators(model), torch.no_grad():
            converted = ov.convert_model(model, example_input=example_input)
    except Exception as error:  # OpenVINO raises RuntimeError and its own classes.
        msg = f"{xml_path}: OpenVINO cannot convert the PyTorch model: {str(error).strip()[:300]}"
        raise ExportError(msg) from error
    return save_openvino(converted, xml_path)


@contextmanager
def _in_standard_operators(model: nn.Module) -> Iterator[None]:
    """Lets frozen modules compute in operators that OpenVINO makes integer kernels of."""
    frozen = [module for module in model.modules() if isinstance(module, FrozenWeight | FrozenActivationQuantizer)]
    for module in frozen:
        module.forward = _standard_forward(module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in frozen:
            del module.forward


def _standard_forward(module: FrozenWeight | FrozenActivationQuantizer) -> Callable[..., Tensor]:
    if isinstance(module, FrozenWeight):
        return lambda weight=None: dequantize(module.codes, module.step_size)
    step_size, signed = module.step_size.item(), module.signed
    # OpenVINO has integer kernels for 256 levels only, so fewer are those inside of bounds.
    low, high = (code * step_size for code in integer_range(module.num_bits, signed=signed))
    levels = integer_range(8, signed=signed)

    def fake_quantize(x: Tensor) -> Tensor:
        inside = torch.clamp(x, low, high) if module.num_bits < 8 else x
        return torch.fake_quantize_per_tensor_affine(inside, step_size, 0, *levels)

    return fake_quantize
