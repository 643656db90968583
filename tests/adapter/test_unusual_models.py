"""Models that are not a chain of convolutions: frozen they still compute what they computed before."""

import copy

import numpy as np
import pytest
import torch
from nncf.torch import load_state
from torch import nn
from torch.nn import functional

from llt_nncf.artifacts import BitPolicy
from llt_nncf.errors import ConfigError
from llt_nncf.errors import StageError
from llt_nncf.pipeline import deploy
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.validation.exported_model import ExportedModel
from llt_nncf.validation.runners import OnnxRuntimeRunner


class DeadChannel(nn.Module):
    """A batch norm with a channel of nearly no gain but a bias, as weight decay leaves them."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.bn = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 4)
        with torch.no_grad():
            self.bn.weight[1], self.bn.bias[1] = 1e-10, 2.0

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(torch.relu(self.stem(x))))).mean((2, 3)))


class Sequence(nn.Module):
    """Linear layers on (batch, positions, features): a batch norm over positions, then positions in the batch."""

    def __init__(self):
        super().__init__()
        self.embed, self.middle, self.bn, self.fc = (
            nn.Linear(9, 6),
            nn.Linear(6, 5),
            nn.BatchNorm1d(14),
            nn.Linear(5, 4),
        )

    def forward(self, x):
        x = torch.relu(self.bn(self.middle(torch.relu(self.embed(x.reshape(-1, 14, 9))))))
        return self.fc(x.reshape(-1, 5)).reshape(-1, 14, 4).mean(1)


class Tied(nn.Module):
    """Two layers with one weight tensor, a batch norm behind the first."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.bn, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 4)
        nn.init.uniform_(self.bn.weight, 0.2, 3.0)
        self.b.weight = self.a.weight

    def forward(self, x):
        x = torch.relu(self.bn(self.a(torch.relu(self.stem(x)))))
        return self.fc(torch.relu(self.b(x)).mean((2, 3)))


class CalledTwice(nn.Module):
    """A layer with a bias that is called on two inputs."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.fc = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)

    def forward(self, x):
        x = torch.relu(self.head(torch.relu(self.stem(x))))
        return self.fc(torch.relu(self.head(x)).mean((2, 3)))


class OwnGain(nn.BatchNorm2d):
    """A gain of one and the parameter."""

    def forward(self, x):
        return functional.batch_norm(x, self.running_mean, self.running_var, 1 + self.weight, self.bias, self.training)


class WithRelu(nn.BatchNorm2d):
    """The activation in the same class, as timm has it."""

    def forward(self, x):
        return torch.relu(super().forward(x))


class Plain(nn.Module):
    """A module with what a batch norm has, which is none of PyTorch's."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(channels) + 0.5), nn.Parameter(torch.rand(channels))
        self.register_buffer("running_mean", torch.rand(channels))
        self.register_buffer("running_var", torch.rand(channels) + 0.5)

    def forward(self, x):
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)


class OwnNorms(nn.Module):
    """Batch norms of classes of one's own, and one whose gain and bias were taken out."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3)
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(4))
        self.norms = nn.ModuleList([OwnGain(4), WithRelu(4), Plain(4), nn.BatchNorm2d(4)])
        self.norms[3].weight = self.norms[3].bias = None
        for norm in self.norms[:2]:
            nn.init.uniform_(norm.weight, 0.2, 2.0)
            nn.init.uniform_(norm.running_mean, -1.0, 1.0)
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))
        return self.fc(x.mean((2, 3)))


NETWORKS = {net.__name__: net for net in (DeadChannel, Sequence, Tied, CalledTwice, OwnNorms)}


def make(name):
    torch.manual_seed(0)
    return NETWORKS[name]()


def in_float64(model, loader):
    x = next(iter(loader))[0].double()
    with torch.no_grad():
        return copy.deepcopy(model).double().eval()(x)


@pytest.mark.parametrize("name", NETWORKS)
def test_freezing_keeps_the_outputs_and_the_model_can_be_exported(compress, loader, tmp_path, name):
    ctrl, model = compress(make(name))
    ctrl.export_model(str(tmp_path / "model.onnx"))
    expected = in_float64(model, loader)
    frozen = ctrl.strip_model(copy.deepcopy(model).double())
    torch.testing.assert_close(in_float64(frozen, loader), expected, rtol=1e-9, atol=1e-9)


def test_positions_in_the_batch_dimension_count_as_work(compress):
    ctrl, _ = compress(make("Sequence"))
    assert {name: layer.macs for name, layer in ctrl.table.by_name.items()} == {
        "embed": 14 * 9 * 6,
        "middle": 14 * 6 * 5,
        "fc": 14 * 5 * 4,
    }


def test_without_range_initialisation_the_quantizers_still_cover_the_data(compress, loader):
    _, model = compress(make("CalledTwice"), initializer={"range": {"num_init_samples": 0}})
    assert float(in_float64(model, loader).std(dim=0).min()) > 1e-3


def test_a_state_dict_of_another_policy_is_noticed_before_freezing(compress, residual, tmp_path):
    first, model = compress(copy.deepcopy(residual))
    other = BitPolicy.uniform(first.table, weight_bits=6, activation_bits=6)
    assert other.bits != first.policy.bits
    second, other_model = compress(copy.deepcopy(residual), policy=str(other.save(tmp_path / "other.json")))
    load_state(other_model, model.state_dict(), is_resume=True)
    with pytest.raises(StageError, match="conv2.*compression_state="):
        second.strip()


def test_a_model_is_frozen_once(compress, residual):
    ctrl, _ = compress(residual)
    ctrl.strip(do_copy=False)
    with pytest.raises(StageError, match="frozen already"):
        ctrl.strip()


def test_between_the_steps_of_importance_training_the_bits_are_the_highest(compress, residual):
    ctrl, _ = compress(residual, importance={"where": "training"})
    names = list(ctrl.policies())
    assert names == ["uniform-6", "uniform-5", "uniform-4", "uniform-3", "uniform-2", "sampled-0"]
    assert all(quantizer.num_bits == max(quantizer.candidate_bits) for quantizer in ctrl.quantizers.all())


def test_a_resume_with_other_candidates_is_refused(compress, residual):
    ctrl, _ = compress(copy.deepcopy(residual), importance={"where": "training"})
    with pytest.raises(ConfigError, match=r"candidate bits \[8, 4\].*\[6, 5, 4, 3, 2\]"):
        compress(residual, compression_state=ctrl.get_compression_state(), candidate_bits=[8, 4])


class Windows(nn.Module):
    """Positions cut into windows, which multiplies sizes, in a module that multiplies activations too; attention."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Linear(9, 8), nn.Linear(8, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.gate, self.mix = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        x = torch.relu(self.embed(x.flatten(1, 2)))
        x = x.reshape(x.shape[1] // 7 * x.shape[0], 7, 8)
        x = torch.relu(self.mix(x * torch.sigmoid(self.gate(x))))
        x = self.mix(self.attention(x, x, x)[0])
        return self.fc(x.reshape(x.shape[0] // 2, 14, 8).mean(1))


# PyTorch's attention compares sizes as it is traced.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_attention_and_products_of_sizes_are_exported_with_all_quantizers(compress, loader, tmp_path):
    torch.manual_seed(0)
    ctrl, _ = compress(Windows())
    ctrl.export_model(str(tmp_path / "model.onnx"))
    assert not torch.backends.mha.get_fastpath_enabled()  # It would pass quantizers by, in evaluation only.
    frozen, called = ctrl.strip(), set()
    for module in frozen.modules():
        if isinstance(module, FrozenActivationQuantizer):
            module.register_forward_hook(lambda quantizer, *_: called.add(quantizer.name))
    x = next(iter(loader))[0]
    with torch.no_grad():
        expected = frozen(x).numpy()
    calls = {name.partition("#")[0] for name in ExportedModel(tmp_path / "model.onnx").activations}
    assert called == calls >= set(ctrl.table.unsearched)
    assert np.abs(OnnxRuntimeRunner(tmp_path / "model.onnx").run(x.numpy()) - expected).max() < 0.1 * np.ptp(expected)


def test_batch_norms_are_folded_where_that_changes_nothing(compress):
    _, model = compress(OwnNorms())
    ctrl = model.nncf.compression_controller
    folded = {name: type(norm).__name__ for name, norm in ctrl._survey.batch_norms.items()}
    assert set(folded) == {"convs.1", "convs.3"}


def test_a_model_in_which_every_layer_is_fixed_is_deployed_without_a_picture_of_indicators(compress, loader, tmp_path):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    float_model = copy.deepcopy(model)
    budget = {"compression_ratio": 1.5}
    ctrl, _ = compress(model, budget=budget, importance={"max_steps": 1})
    deploy(ctrl, float_model, loader.dataset.tensors[0], None, tmp_path / "out", latency_rounds=0, min_agreement=0)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"bits.png", "report.json"} <= written
    assert "indicators.png" not in written
