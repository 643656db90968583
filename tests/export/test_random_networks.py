"""Small networks that hypothesis makes, through export and both engines: exact with power-of-two step sizes."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch import nn

from llt_nncf.export import export_onnx
from llt_nncf.export import export_openvino
from llt_nncf.validation.runners import OnnxRuntimeRunner
from llt_nncf.validation.runners import OpenVinoRunner
from tests.export.frozen_models import Layer
from tests.export.frozen_models import calibrate
from tests.export.frozen_models import quantizer

C, SIZE = 4, 5
LAYERS = {"conv": (C, C, 3, 3), "pointwise": (C, C, 1, 1), "depthwise": (C, 1, 3, 3), "concat": (C, 2 * C, 1, 1)}
OTHERS = ("add", "add_conv", "multiply", "max_pool", "avg_pool", "swap", "reused")
ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "relu6": F.relu6}


@dataclass(frozen=True)
class Step:
    """One operation on earlier tensors, which ``first`` and ``second`` count back from the last, and its quantizer."""

    kind: str
    first: int
    second: int
    activation: str
    weight_bits: int
    activation_bits: int


class Network(nn.Module):
    """Computes the steps one after the other; the outputs are the tensors that no step reads."""

    def __init__(self, steps: list[Step]):
        super().__init__()
        self.steps = steps
        self.quantizers = nn.ModuleList([quantizer("input", 8, True)])
        self.layers, self.branch_quantizers = nn.ModuleDict(), nn.ModuleDict()
        self.sources: list[tuple[int, int]] = []
        for index, step in enumerate(steps):
            first, second = (max(index - back, 0) for back in (step.first, step.second))
            self.sources.append((first, second))
            if step.kind == "concat":
                # Both go through one grid; without a layer in front that would be a quantizer behind a quantizer.
                self.branch_quantizers[str(index)] = quantizer(f"branch{index}", step.activation_bits, True)
            if step.kind in LAYERS or step.kind == "add_conv":
                kind = "conv" if step.kind == "add_conv" else step.kind
                source = self.branch_quantizers[str(index)] if kind == "concat" else self.quantizers[first]
                shape = LAYERS[kind]
                self.layers[str(index)] = Layer(
                    f"layer{index}",
                    source,
                    shape,
                    num_bits=step.weight_bits,
                    padding=shape[-1] // 2,
                    groups=C if kind == "depthwise" else 1,
                )
                if step.kind == "add_conv":
                    self.branch_quantizers[str(index)] = quantizer(f"branch{index}", 8, True)
            self.quantizers.append(quantizer(f"q{index}", step.activation_bits, step.activation == "none"))
        self.shared = Layer("shared", self.quantizers[0], LAYERS["conv"], padding=1, has_bias=False)

    def compute(self, index: int, step: Step, x: Tensor, y: Tensor) -> Tensor:
        if step.kind == "add":
            return x + y
        if step.kind == "add_conv":
            return self.branch_quantizers[str(index)](self.layers[str(index)](x)) + y
        if step.kind == "multiply":
            return x * y
        if step.kind == "max_pool":
            return F.max_pool2d(x, 3, 1, 1)
        if step.kind == "avg_pool":
            return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)
        if step.kind == "swap":
            return x.transpose(2, 3)
        if step.kind == "reused":
            return self.shared(x)
        if step.kind == "concat":
            joined = self.branch_quantizers[str(index)]
            return self.layers[str(index)](torch.cat([joined(x), joined(y)], dim=1))
        return self.layers[str(index)](x)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        tensors, used = [self.quantizers[0](x)], {0}
        for index, (step, sources) in enumerate(zip(self.steps, self.sources, strict=True)):
            used.update(sources)
            value = self.compute(index, step, *(tensors[source] for source in sources))
            tensors.append(self.quantizers[index + 1](ACTIVATIONS[step.activation](value)))
        return tuple(tensor for index, tensor in enumerate(tensors) if index not in used)


steps = st.builds(
    Step,
    kind=st.sampled_from([*LAYERS, *OTHERS]),
    first=st.integers(0, 3),
    second=st.integers(0, 3),
    activation=st.sampled_from(list(ACTIVATIONS)),
    weight_bits=st.integers(2, 8),
    activation_bits=st.integers(2, 8),
)


def assert_exact(network_steps: list[Step], seed: int) -> None:
    torch.manual_seed(seed)
    # Quarters of the input's step: what is left of it does not decide how an engine rounds it.
    x = torch.randint(-512, 512, (2, C, SIZE, SIZE)) / 128
    model = calibrate(Network(network_steps), x, is_exact=True)
    model.shared.frozen_weight.step_size.fill_(2.0**-6)
    with torch.no_grad():
        wanted = [output.numpy() for output in model(x)]
    names = [f"out{index}" for index in range(len(wanted))]
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(model, x[:1], Path(folder) / "model.onnx", output_names=names)
        for runner in (
            OnnxRuntimeRunner(path),
            OpenVinoRunner(export_openvino(path, Path(folder) / "model.xml", packed=True)),
        ):
            for found, output in zip(runner.run_outputs(x.numpy(), names), wanted, strict=True):
                np.testing.assert_array_equal(found, output, err_msg=runner.engine)


# Found at random: one ReLU6 in front of two quantizers.
@example([Step("avg_pool", 0, 0, "relu6", 6, 4), Step("avg_pool", 2, 3, "relu6", 2, 3)], 4)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(steps, min_size=2, max_size=7), st.integers(0, 9))
def test_networks_are_exact_in_both_engines(network_steps, seed):
    assert_exact(network_steps, seed)
