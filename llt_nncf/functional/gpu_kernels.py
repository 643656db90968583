"""Finds out where LSQ's kernels for GPUs work; elsewhere ``fake_quantize`` computes the same."""

import warnings
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor


def kernels_for(x: Tensor, raw_step_sizes: Tensor) -> ModuleType | None:
    """
    Returns the module of the kernels if they take this, or ``None``.

    :param x: What is to be quantized.
    :param raw_step_sizes: The step sizes' parameter, one row for each of them.
    """
    # A compiler fuses the operations itself.
    if x.device.type != "cuda" or torch.compiler.is_compiling():
        return None
    kernels = _kernels_that_work(x.device)
    return kernels if kernels is not None and kernels.fits(x, raw_step_sizes) else None


@lru_cache
def _kernels_that_work(device: torch.device) -> ModuleType | None:
    try:
        import llt_nncf.functional.lsq_kernels as kernels

        with torch.inference_mode(False), torch.enable_grad():  # the first call may come in an evaluation
            one = torch.ones(1, device=device, requires_grad=True)
            kernels.KernelLsq.apply(one, one, 0, 0.0, -8, 7, 1.0).backward()
    except Exception as error:  # noqa: BLE001  of a compiler; all that they do can be done without them
        warnings.warn(
            f"Quantizers do without their Triton kernels, which do not work on {device} ({type(error).__name__}: "
            f"{error}). Training is slower for it. Triton comes with PyTorch for Linux, and needs a C compiler (gcc).",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return kernels
