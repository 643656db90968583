"""Models of every kind through all stages: what is quantized, trained, searched and exported."""

import logging
import re
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from nncf.torch.initialization import PTInitializingDataLoader
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

from llt_nncf.errors import ExportError
from llt_nncf.errors import StageError
from llt_nncf.pipeline import deploy
from tests.adapter.model_kinds import IMAGE
from tests.adapter.model_kinds import KINDS
from tests.adapter.model_kinds import TOKENS
from tests.adapter.model_kinds import VECTOR
from tests.adapter.model_kinds import VOCABULARY
from tests.adapter.model_kinds import TwoInputs
from tests.adapter.model_kinds import conv

SAMPLES = 16
TARGET = torch.arange(SAMPLES) % 4


class Loader(PTInitializingDataLoader):
    """Batches of inputs and a target; ``arrange`` makes the model's arguments of the inputs."""

    def __init__(self, inputs, arrange):
        super().__init__(DataLoader(TensorDataset(*inputs, TARGET), batch_size=8))
        self.arrange = arrange

    def get_inputs(self, dataloader_output):
        return self.arrange(dataloader_output[:-1])

    def get_target(self, dataloader_output):
        return dataloader_output[-1]


def arranged(name, inputs):
    return ((inputs[0],), {"v": inputs[1]}) if name == "keyword_input" else (tuple(inputs), {})


def loss_of(outputs, target, criterion):
    if isinstance(outputs, dict):
        return criterion(outputs["logits"], target) + outputs["mask"].square().mean()
    if isinstance(outputs, tuple):
        return sum(criterion(output, target) for output in outputs)
    return criterion(outputs, target)


def make_inputs(shapes):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(VOCABULARY, (SAMPLES, *shape), generator=generator)
        if shape == TOKENS
        else torch.randn(SAMPLES, *shape, generator=generator)
        for shape in shapes
    ]


def input_info(name, inputs):
    info = [{"sample_size": [1, *x.shape[1:]]} for x in inputs]
    if inputs[0].dtype == torch.int64:
        info[0] |= {"type": "long", "filler": "zeros"}
    if name == "keyword_input":
        info[1]["keyword"] = "v"
    return info


def compress(model, loader, info, **section):
    content = {
        "compression": {
            "algorithm": "llt_quantization",
            "candidate_bits": [4, 3],
            "budget": {"bitops_as": {"weight_bits": 3, "activation_bits": 4}},
            "importance": {"max_steps": 2},
            "initializer": {
                "range": {"num_init_samples": SAMPLES},
                "batchnorm_adaptation": {"num_bn_adaptation_samples": SAMPLES},
            },
            **section,
        },
    }
    if info:
        content["input_info"] = info
    config = register_default_init_args(
        NNCFConfig.from_dict(content), loader, criterion=nn.CrossEntropyLoss(), criterion_fn=loss_of
    )
    return create_compressed_model(model, config, dump_graphs=False)


def assert_surveyed(kind, ctrl):
    rows = ctrl.table.layers
    assert [row.name for row in rows if len(row.weight_bits) > 1] == kind.searched.split()
    assert [row.name for row in rows if row.weight_bits == (8,)] == kind.fixed.split()
    assert {row.name for row in rows if row.activation_group.endswith("(float input)")} == set(kind.float_input.split())
    shared = {" ".join(layer.name for layer in group) for group in ctrl.table.groups.values() if len(group) > 1}
    assert shared == set(kind.same_input)
    assert list(ctrl.table.unsearched.values()) == [8] * kind.unsearched
    assert len(ctrl.quantizers.activations) == len(ctrl.table.groups) + kind.unsearched - len(kind.float_input.split())
    places = [len(quantizer.affected_insertions) for quantizer in ctrl.non_weight_quantizers.values()]
    assert sum(count > 1 for count in places) == kind.num_unified


def assert_within_budget(ctrl):
    spent = sum(row.macs * np.prod(ctrl.policy.bits[row.name]) for row in ctrl.table.layers)
    assert spent <= sum(row.macs * np.prod(row.uniform_bits(3, 4)) for row in ctrl.table.layers)


def assert_gradients(ctrl, model):
    """Everything is trained but the range of the input, and what the model never calls."""
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    kept = [quantizer for quantizer in ctrl.quantizers.all() if quantizer.keeps_range]
    assert {name for name in without if not name.startswith("never")} == {
        name for name, parameter in model.named_parameters() if any(parameter is q.raw_step_sizes for q in kept)
    }
    for name, parameter in model.named_parameters():
        if name not in without:
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.dim() == 1 or parameter.grad.any(), name


def fine_tune(ctrl, model, call):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    for step in range(3):
        optimizer.zero_grad()
        loss = loss_of(call(model), TARGET, nn.CrossEntropyLoss()) + ctrl.loss()
        loss.backward()
        if step == 0:  # Later everything may be clipped, of so few samples and with no training before.
            assert_gradients(ctrl, model)
        optimizer.step()
        assert torch.isfinite(loss)


def flat(outputs):
    if isinstance(outputs, dict):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def assert_deploys(kind, ctrl, inputs, outputs, folder):
    """One output for one input of floats passes in both engines, whatever of it is quantized; others are refused."""
    if len(inputs) > 1:
        return
    if inputs[0].dtype == torch.int64 or len(outputs) > 1:
        with pytest.raises(ExportError, match="unchecked"):
            deploy(ctrl, kind.make(), inputs[0], None, folder, latency_rounds=0)
        return
    report = deploy(ctrl, kind.make(), inputs[0], None, folder, latency_rounds=0, min_agreement=0.9)
    assert report.faults == ()


@pytest.mark.parametrize("name", KINDS)
# Attention and the padding of convolutions compare sizes as they are traced.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
# Of recurrent layers, that their state depends on the batch; the file is run with the batch that it was traced with.
@pytest.mark.filterwarnings("ignore:Exporting a model to ONNX with a batch_size other than 1:UserWarning")
# An instance norm has no running statistics to export.
@pytest.mark.filterwarnings("ignore:ONNX export mode is set to TrainingMode.EVAL:UserWarning")
def test_a_model_goes_through_all_stages(name, tmp_path, caplog):
    kind = KINDS[name]
    torch.manual_seed(0)
    inputs = make_inputs(kind.inputs)
    args, kwargs = arranged(name, inputs)
    float_model = kind.make()
    for _ in range(40):
        float_model(*args, **kwargs)  # Statistics of the batch norms.
    loader = Loader(inputs, partial(arranged, name))
    with caplog.at_level(logging.INFO, "nncf"):
        ctrl, model = compress(float_model, loader, input_info(name, inputs))
    assert_surveyed(kind, ctrl)
    said = " ".join(record.message for record in caplog.records if "stay in float" in record.message)
    assert set(re.findall(r"(\S+) \([\d,]+\)", said)) == set(kind.in_float.split())
    assert_within_budget(ctrl)

    fine_tune(ctrl, model, lambda network: network(*args, **kwargs))
    frozen = ctrl.strip()
    with torch.no_grad():
        expected, trained = flat(frozen(*args, **kwargs)), flat(model.eval()(*args, **kwargs))
    torch.testing.assert_close(expected, trained)
    ctrl.export_model(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    found = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    for output, other in zip(expected, found, strict=True):
        difference = np.abs(output.numpy() - other)
        # A tie that falls to the other side moves what is behind it.
        assert np.median(difference) < 1e-5 * np.ptp(other)
        assert difference.max() < 0.1 * np.ptp(other)
    assert_deploys(kind, ctrl, inputs, expected, tmp_path / "deployed")


def test_the_input_of_a_function_with_weights_is_not_searched():
    kind = KINDS["functional"]
    inputs = make_inputs(kind.inputs)
    ctrl, _ = compress(kind.make(), Loader(inputs, partial(arranged, "")), input_info("", inputs))
    names = {name for name, quantizer in ctrl.quantizers.activations.items() if len(quantizer.candidate_bits) > 1}
    assert names == {ctrl.table.by_name[layer].activation_group for layer in kind.searched.split()}


class Branching(nn.Module):
    """A head that runs in training only, and calls functions that the rest calls after it."""

    def __init__(self, is_head_last):
        super().__init__()
        self.stem, self.mid, self.fc, self.aux = conv(3, 8), conv(8, 8), nn.Linear(8, 4), nn.Linear(8, 4)
        self.is_head_last = is_head_last

    def forward(self, x):
        x = torch.relu(self.stem(x))
        if self.training and not self.is_head_last:
            self.aux(torch.relu(x).mean((2, 3)))
        y = self.fc(torch.relu(self.mid(x)).mean((2, 3)))
        if self.training and self.is_head_last:
            self.aux(torch.relu(x).mean((2, 3)))
        return y


def test_quantizers_that_training_would_put_elsewhere_are_named():
    inputs = make_inputs([IMAGE])
    loader = Loader(inputs, partial(arranged, ""))
    with pytest.raises(StageError, match=r"'relu_1' stands elsewhere.*self\.training.*module of its own"):
        compress(Branching(is_head_last=False), loader, input_info("", inputs))
    ctrl, _ = compress(Branching(is_head_last=True), loader, input_info("", inputs))
    assert list(ctrl.table.by_name) == ["stem", "mid", "fc"]


class TrainedWithTargets(nn.Sequential):
    def forward(self, x, targets=None):
        if self.training and targets is None:
            msg = "targets are needed"
            raise ValueError(msg)
        return super().forward(x)


def test_a_model_whose_training_takes_more_than_the_registered_batches_is_built():
    inputs = make_inputs([VECTOR])
    model = TrainedWithTargets(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    ctrl, _ = compress(
        model,
        Loader(inputs, partial(arranged, "")),
        input_info("", inputs),
        importance={"where": "training"},
        initializer={"batchnorm_adaptation": {"num_bn_adaptation_samples": 0}},
    )
    assert list(ctrl.table.by_name) == ["0", "2", "4"]


class OldNorm(nn.Sequential):
    def __init__(self):
        super().__init__(conv(3, 8), nn.utils.weight_norm(conv(8, 8)), nn.Flatten(), nn.Linear(512, 4))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_a_weight_that_is_computed_before_every_call_is_refused():
    inputs = make_inputs([IMAGE])
    with pytest.raises(StageError, match=r"^1: its weight is no parameter.*remove_weight_norm"):
        compress(OldNorm(), Loader(inputs, partial(arranged, "")), input_info("", inputs))


class FromDict(TwoInputs):
    def forward(self, batch):
        return super().forward(batch["x"], batch["v"])


def test_inputs_in_a_dict_are_refused_with_the_remedy():
    loader = Loader(make_inputs([IMAGE, VECTOR]), lambda inputs: (({"x": inputs[0], "v": inputs[1]},), {}))
    with pytest.raises(StageError, match="no input.*arguments of forward.*by position or keyword"):
        compress(FromDict(), loader, None)
