"""The kernels for GPUs: by Triton's interpreter, on a GPU, and what happens where they do not work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from llt_nncf.functional import fake_quantize
from llt_nncf.functional import lsq

INTERPRETED = """
import torch
from llt_nncf.functional import lsq_kernels
from llt_nncf.functional.lsq import _gradients_by_elements, _round_to_grid

generator = torch.Generator().manual_seed(0)
for qmin, qmax in ((-2, 1), (-8, 7), (-127, 127), (0, 3), (0, 255)):
    for dtype in (torch.float32, torch.float16):  # the interpreter rounds to bfloat16 downwards, a GPU does not
        for count in (1, 2048, 5000):
            step = torch.tensor([0.0371])
            codes = qmin - 3 + (qmax - qmin + 6) * torch.rand(count, generator=generator)
            codes[: count // 4] = codes[: count // 4].round() + 0.5  # ties, as far as the step size gives them
            x = (codes * step).to(dtype)
            grad = torch.randn(count, generator=generator).to(dtype)
            found = lsq_kernels.round_to_grid(x, step, qmin, qmax)
            assert torch.equal(found, _round_to_grid(x, step, qmin, qmax).to(dtype))
            grad_x, grad_step = lsq_kernels.gradients(grad, x, step, qmin, qmax, 0.25)
            expected = _gradients_by_elements(grad, x, step, qmin, qmax)
            assert torch.equal(grad_x, expected[0])
            torch.testing.assert_close(grad_step, 0.25 * expected[1][0], rtol=1e-4, atol=1e-3)
x = torch.randn(2, 3, 5, 4, generator=generator).to(memory_format=torch.channels_last)
assert lsq_kernels.round_to_grid(x, step, -8, 7).stride() == x.stride()
grad = torch.ones(1, 1, 1, 4).expand_as(x)
grad_x, grad_step = lsq_kernels.gradients(grad, x, step, -8, 7, 1.0)
expected = _gradients_by_elements(grad, x, step, -8, 7)
assert torch.equal(grad_x, expected[0])
torch.testing.assert_close(grad_step, expected[1][0], rtol=1e-4, atol=1e-4)
x = torch.tensor([0.2, float("nan"), float("inf"), -float("inf")])
found = lsq_kernels.round_to_grid(x, torch.ones(1), -8, 7)
torch.testing.assert_close(found, torch.tensor([0.0, float("nan"), 7.0, -8.0]), equal_nan=True)
assert lsq_kernels.gradients(x, x, torch.ones(1), -8, 7, 1.0)[1].isnan()
print("the same")
"""


def test_the_kernels_compute_what_the_operations_do():
    pytest.importorskip("triton", reason="Triton comes with PyTorch for GPUs on Linux only")
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "error", "-c", INTERPRETED]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip() == "the same", done.stderr


def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 6, 5, 7, generator=generator), torch.tensor([0.21])


def test_without_kernels_that_work_a_gpu_gets_the_operations(monkeypatch):
    # "meta" has no kernels of Triton, as has a GPU without a C compiler.
    lsq._kernels_that_work.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"do not work on meta \(\w+.*needs a C compiler"):
        assert lsq._kernels_that_work(torch.device("meta")) is None


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("channels", [1, 4], ids=["per-tensor", "per-channel"])
def test_a_gpu_gives_the_values_of_the_cpu(channels, layout, dtype):
    x, step = example()
    x, step = x.to(dtype).contiguous(memory_format=layout), step.expand(channels, 1, 1, 1).contiguous()
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = []
    for device in ("cpu", "cuda"):
        a, s = x.to(device).requires_grad_(), step.to(device).requires_grad_()
        y = fake_quantize(a, s, num_bits=4, signed=True)
        y.backward(upstream.to(device))
        assert y.dtype == a.grad.dtype == dtype
        found.append([t.detach().cpu() for t in (y, a.grad, s.grad)])
    assert torch.equal(found[1][0], found[0][0])
    assert torch.equal(found[1][1], found[0][1])
    torch.testing.assert_close(found[1][2], found[0][2], rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
def test_the_kernels_work_on_this_gpu():
    x, step = (t.cuda() for t in example())
    assert lsq._kernels(x, step) is not None
    assert lsq._kernels(x.double(), step) is None
    assert lsq._kernels(x[:0], step) is None
    assert lsq._kernels(x, step.expand(4).reshape(4, 1, 1, 1)) is None
