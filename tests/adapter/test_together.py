"""Our algorithm beside others of NNCF in one config: the whole life of such a model."""

import copy
import json

import numpy as np
import onnxruntime
import pytest
import torch
from nncf import NNCFConfig
from nncf.api.compression import CompressionStage
from nncf.torch import create_compressed_model
from nncf.torch import load_state
from nncf.torch import register_default_init_args
from torch import nn

from llt_nncf.adapter.restore import restore
from llt_nncf.quantizers import FrozenWeight

MAGNITUDE = {
    "algorithm": "magnitude_sparsity",
    "sparsity_init": 0.3,
    "params": {"schedule": "polynomial", "sparsity_target": 0.6, "sparsity_target_epoch": 2},
}
PRUNING = {
    "algorithm": "filter_pruning",
    "pruning_init": 0.25,
    "params": {"pruning_target": 0.5, "pruning_steps": 2, "prune_first_conv": True},
}
PRUNING_WITHOUT_NORMS = {**PRUNING, "params": {**PRUNING["params"], "prune_batch_norms": False}}
DISTILLATION = {"algorithm": "knowledge_distillation", "type": "softmax"}
CONST = {"algorithm": "const_sparsity"}
RB = {
    "algorithm": "rb_sparsity",
    "sparsity_init": 0.1,
    "params": {"schedule": "polynomial", "sparsity_target": 0.4, "sparsity_target_epoch": 2},
}
PARTNERS = {
    "magnitude": [MAGNITUDE],
    "pruning": [PRUNING],
    "pruning-without-norms": [PRUNING_WITHOUT_NORMS],
    "distillation": [DISTILLATION],
    "const": [CONST],
    "rb": [RB],
    "magnitude-and-distillation": [DISTILLATION, MAGNITUDE],
}


class Wide(nn.Module):
    """Wide enough that filters can be pruned, which NNCF does by eights; a residual addition, biases, a sigmoid."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 24, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(24)
        self.conv3 = nn.Conv2d(24, 24, 3, padding=1)
        self.fc = nn.Linear(24, 4)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.sigmoid(self.bn2(self.conv2(x)))
        return self.fc(torch.relu(x + self.conv3(x)).mean((2, 3)))


@pytest.fixture
def wide():
    torch.manual_seed(0)
    model = Wide()
    for norm in (model.bn1, model.bn2):
        nn.init.normal_(norm.weight, 0.5, 0.7)
        nn.init.normal_(norm.bias, 0.0, 0.3)
    model.train()
    for _ in range(20):
        model(torch.randn(32, 2, 7, 9))
    return model


@pytest.fixture
def together(loader, tmp_path):
    """Returns ``together(model, partners, ours_first=True, **section) -> (controller, model)``."""

    def run(model, partners, *, ours_first=True, compression_state=None, global_keys=None, **section):
        ours = {
            "algorithm": "llt_quantization",
            "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
            "initializer": {
                "range": {"num_init_samples": 64},
                "batchnorm_adaptation": {"num_bn_adaptation_samples": 64},
            },
            **section,
        }
        algorithms = [ours, *partners] if ours_first else [*partners, ours]
        content = {"input_info": {"sample_size": [1, 2, 7, 9]}, "compression": algorithms, **(global_keys or {})}
        (tmp_path / "config.json").write_text(json.dumps(content))
        config = NNCFConfig.from_json(str(tmp_path / "config.json"))
        config = register_default_init_args(config, loader, criterion=nn.CrossEntropyLoss())
        return create_compressed_model(model, config, compression_state=compression_state, dump_graphs=False)

    return run


def finetune(ctrl, model, loader, *, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    passes = []
    for _ in range(epochs):
        ctrl.scheduler.epoch_step()
        model.train()
        for images, target in loader:
            ctrl.scheduler.step()
            optimizer.zero_grad()
            names = []
            for name in ctrl.policies():
                (nn.functional.cross_entropy(model(images), target) + ctrl.loss()).backward()
                names.append(name)
            optimizer.step()
            passes.append(len(names))
    return passes


def outputs(model, loader):
    model.eval()
    with torch.no_grad():
        return model(next(iter(loader))[0])


def share_of_zeros(tensors):
    tensors = list(tensors)
    return sum(int((tensor == 0).sum()) for tensor in tensors) / sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours-first", "ours-last"])
@pytest.mark.parametrize("partners", PARTNERS.values(), ids=PARTNERS)
def test_a_model_lives_with_several_algorithms_as_with_one(together, wide, loader, tmp_path, partners, ours_first):
    original = copy.deepcopy(wide)
    ctrl, model = together(wide, partners, ours_first=ours_first)
    assert ctrl.policy.provenance["status"] == "optimal"
    assert finetune(ctrl, model, loader, epochs=3) == [1] * 3 * len(loader)
    assert ctrl.compression_stage() == CompressionStage.FULLY_COMPRESSED
    live = outputs(model, loader)

    # A resume gives the same outputs, with and without data.
    state, weights = ctrl.get_compression_state(), copy.deepcopy(model.state_dict())
    resumed_ctrl, resumed = together(copy.deepcopy(original), partners, ours_first=ours_first, compression_state=state)
    load_state(resumed, weights, is_resume=True)
    assert torch.equal(outputs(resumed, loader), live)
    assert resumed_ctrl.policy.bits == ctrl.policy.bits
    torch.save({"model": weights, "compression": state}, tmp_path / "checkpoint.pt")
    restored = restore(copy.deepcopy(original), tmp_path / "config.json", tmp_path / "checkpoint.pt")
    assert torch.equal(outputs(restored.model, loader), live)

    # Freezing changes nothing, and leaves the model that it was called for as it was.
    before = copy.deepcopy(model.state_dict())
    batch = [(next(iter(loader))[0].double(), None)]
    expected = outputs(model.double(), batch)
    frozen = ctrl.strip()
    torch.testing.assert_close(outputs(frozen, batch), expected, rtol=1e-9, atol=1e-9)
    assert sum(isinstance(module, FrozenWeight) for module in frozen.modules()) == 4
    model.float()
    frozen = ctrl.strip()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    # The file computes what the frozen model computes.
    ctrl.export_model(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: batch[0][0].float().numpy()})[0]
    np.testing.assert_allclose(found, outputs(frozen, loader).numpy(), rtol=1e-4, atol=1e-4)
