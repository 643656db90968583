"""The kernels for GPUs: by Triton's interpreter, on a GPU, and what happens where they do not work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from llt_nncf.functional import gpu_kernels
from llt_nncf.functional import kernels_for
from llt_nncf.quantizers import SwitchableQuantizer

INTERPRETED = """
import torch
from llt_nncf.functional import fake_quantize, integer_range
from llt_nncf.functional.lsq_kernels import KernelLsq

generator = torch.Generator().manual_seed(0)
FLOOR, raw = 1e-3, torch.tensor([0.3, -0.0361, 0.02]).reshape(3, 1)


def same(x, grad, index, bits, signed, layout=torch.contiguous_format):
    found = []
    for by_kernels in (True, False):
        a, s = x.clone().requires_grad_(), raw.clone().requires_grad_()
        if by_kernels:
            y = KernelLsq.apply(a, s, index, FLOOR, *integer_range(bits, signed=signed), 0.25)
        else:
            y = fake_quantize(a, s[index].abs() + FLOOR, num_bits=bits, signed=signed, grad_scale=0.25)
        y.backward(grad)
        assert y.dtype == x.dtype
        assert layout is None or y.is_contiguous(memory_format=layout)
        found.append((y.detach(), a.grad, s.grad))
    for one, other in zip(found[0][:2], found[1][:2]):
        assert torch.equal(one, other)
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-4, atol=1e-3)
    assert found[0][2].count_nonzero() <= 1


for bits, signed in ((2, True), (4, True), (8, True), (2, False), (8, False)):
    for dtype in (torch.float32, torch.float16):  # the interpreter rounds to bfloat16 downwards, a GPU does not
        for index, count in enumerate((1, 2048, 5000)):
            codes = (2**bits + 6) * torch.rand(count, generator=generator) - 3 - signed * 2 ** (bits - 1)
            codes[: count // 4] = codes[: count // 4].round() + 0.5  # ties, as far as the step size gives them
            x = (codes * (raw[index].abs() + FLOOR)).to(dtype)
            same(x, torch.randn(count, generator=generator).to(dtype), index, bits, signed)
x = torch.randn(2, 3, 5, 4, generator=generator)
last = torch.channels_last
same(x.to(memory_format=last), torch.randn(2, 3, 5, 4, generator=generator), 0, 4, True, layout=last)
same(x, torch.ones(1, 1, 1, 4).expand_as(x), 1, 4, True)
same(x.transpose(1, 2)[:, ::2], torch.ones(2, 3, 3, 4), 1, 4, True, layout=None)

x = torch.tensor([0.2, float("nan"), float("inf"), -float("inf")])
step = torch.ones(1, requires_grad=True)
y = KernelLsq.apply(x, step, 0, 0.0, -8, 7, 1.0)
torch.testing.assert_close(y, torch.tensor([0.0, float("nan"), 7.0, -8.0]), equal_nan=True)
y.sum().backward()
assert step.grad.isnan()
print("the same")
"""


def test_the_kernels_compute_what_the_operations_do():
    pytest.importorskip("triton", reason="Triton comes with PyTorch for GPUs on Linux only")
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", INTERPRETED]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip() == "the same", done.stderr


def test_without_kernels_that_work_a_gpu_gets_the_operations():
    # "meta" has no kernels of Triton, as has a GPU without a C compiler.
    gpu_kernels._kernels_that_work.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"do not work on meta \(\w+.*needs a C compiler"):
        assert gpu_kernels._kernels_that_work(torch.device("meta")) is None


def quantized(device: str, x: Tensor, upstream: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    """What a quantizer puts out at 4 bits, its gradient for the input, and that of its step sizes."""
    quantizer = SwitchableQuantizer((8, 4, 2), scale_shape=shape)
    quantizer.num_bits = 4
    quantizer.set_step_size(4, torch.tensor(0.21))
    quantizer.to(device)
    x = x.to(device).detach().requires_grad_()
    y = quantizer(x)
    y.backward(upstream.to(device))
    assert y.dtype == x.grad.dtype == x.dtype
    return [value.detach().cpu() for value in (y, x.grad, quantizer.raw_step_sizes.grad)]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("shape", [(1,), (4, 1, 1, 1)], ids=["per-tensor", "per-channel"])
def test_a_gpu_gives_the_values_of_the_cpu(shape, layout, dtype):
    generator = torch.Generator().manual_seed(0)
    x, upstream = (torch.randn(4, 6, 5, 7, generator=generator).to(dtype) for _ in range(2))
    x = x.contiguous(memory_format=layout)
    on_cpu, on_gpu = (quantized(device, x, upstream, shape) for device in ("cpu", "cuda"))
    assert torch.equal(on_gpu[0], on_cpu[0])
    assert torch.equal(on_gpu[1], on_cpu[1])
    torch.testing.assert_close(on_gpu[2], on_cpu[2], rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
def test_the_kernels_work_on_this_gpu():
    gpu_kernels._kernels_that_work.cache_clear()
    with torch.inference_mode():
        assert kernels_for(torch.ones(3, device="cuda"), torch.ones(1, device="cuda")) is not None
    x, raw = torch.randn(4, 6, device="cuda"), torch.ones(5, 1, device="cuda")
    assert kernels_for(x, raw) is not None
    assert kernels_for(x.double(), raw) is None
    assert kernels_for(x[:0], raw) is None
    assert kernels_for(x, raw.expand(5, 4)[..., None]) is None
