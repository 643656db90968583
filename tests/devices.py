"""Where tests run that hold everywhere: without a GPU those of the GPU are left out."""

import pytest

CUDA = pytest.mark.cuda
DEVICE_NAMES = ["cpu", pytest.param("cuda", marks=CUDA)]
DEVICES = pytest.mark.parametrize("device", DEVICE_NAMES)
# Of two processes, which share the GPU.
RANKS = pytest.mark.parametrize(
    ("device", "backend"),
    [("cpu", "gloo"), pytest.param("cuda", "gloo", marks=CUDA), pytest.param("cuda", "nccl", marks=CUDA)],
)
# NCCL refuses ranks that share a GPU; two that give their machine another name (NCCL_HOSTID) it connects by sockets.
NCCL_ENVIRONMENT = {"NCCL_SOCKET_IFNAME": "lo"}
