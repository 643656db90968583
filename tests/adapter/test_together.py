"""Our algorithm beside others of NNCF in one config: the whole life of such a model."""

import copy
import json
import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nncf import NNCFConfig
from nncf.api.compression import CompressionStage
from nncf.torch import create_compressed_model
from nncf.torch import load_state
from nncf.torch import register_default_init_args
from nncf.torch.composite_compression import PTCompositeCompressionAlgorithmController
from nncf.torch.sparsity.layers import BinaryMask
from torch import nn

from llt_nncf.adapter.composite import LltCompositeController
from llt_nncf.adapter.controller import LltQuantizationController
from llt_nncf.adapter.restore import restore
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import ConfigError
from llt_nncf.errors import TrainingDivergedError
from llt_nncf.pipeline import deploy
from llt_nncf.quantizers import FrozenWeight
from tests.adapter.batch_norms import settle_batch_norms
from tests.adapter.nncf_loop import finetune

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
RB = {
    "algorithm": "rb_sparsity",
    "sparsity_init": 0.1,
    "params": {"schedule": "polynomial", "sparsity_target": 0.4, "sparsity_target_epoch": 2},
}
# The algorithms beside ours, and whether ours comes first in the list.
LIVES = [
    pytest.param([MAGNITUDE], True, id="magnitude"),
    pytest.param([PRUNING], False, id="pruning"),
    pytest.param([PRUNING_WITHOUT_NORMS], True, id="pruning-without-norms"),
    pytest.param([DISTILLATION], False, id="distillation"),
    pytest.param([{"algorithm": "const_sparsity"}], True, id="const", marks=pytest.mark.slow),
    pytest.param([RB], False, id="rb", marks=pytest.mark.slow),
    pytest.param([DISTILLATION, MAGNITUDE], True, id="magnitude-and-distillation"),
]


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
    return settle_batch_norms(Wide())


@pytest.fixture
def together(loader, tmp_path):
    """Returns ``together(model, partners, ours_first=True, **section) -> (controller, model)``."""

    def run(
        model,
        partners,
        *,
        ours_first=True,
        compression_state=None,
        criterion=nn.functional.cross_entropy,
        global_keys=None,
        **section,
    ):
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
        config = register_default_init_args(config, loader, criterion=criterion)
        return create_compressed_model(model, config, compression_state=compression_state, dump_graphs=False)

    return run


def outputs(model, loader):
    model.eval()
    with torch.no_grad():
        return model(next(iter(loader))[0])


def masked_weights(ctrl, model, loader):
    """The weights as they reach their quantizers."""
    seen = {}
    hooks = [
        quantizer.register_forward_pre_hook(lambda module, inputs, name=name: seen.update({name: inputs[0].detach()}))
        for name, quantizer in ctrl.quantizers.weights.items()
    ]
    outputs(model, loader)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(("partners", "ours_first"), LIVES)
def test_a_model_lives_with_several_algorithms_as_with_one(together, wide, loader, tmp_path, partners, ours_first):
    original = copy.deepcopy(wide)
    ctrl, model = together(wide, partners, ours_first=ours_first)
    assert ctrl.policy.provenance["status"] == "optimal"
    assert finetune(ctrl, model, loader, epochs=3) == [1] * 3 * len(loader)
    if RB in partners:  # which takes longer than this to clear a weight
        model.conv2.get_submodule("pre_ops.0.op").mask.data[:, 0] = -5.0
    assert ctrl.compression_stage() == CompressionStage.FULLY_COMPRESSED
    live, weights = outputs(model, loader), masked_weights(ctrl, model, loader)

    # A resume gives the same outputs, with and without data.
    state, values = ctrl.get_compression_state(), copy.deepcopy(model.state_dict())
    resumed_ctrl, resumed = together(copy.deepcopy(original), partners, ours_first=ours_first, compression_state=state)
    load_state(resumed, values, is_resume=True)
    assert torch.equal(outputs(resumed, loader), live)
    assert resumed_ctrl.policy.bits == ctrl.policy.bits
    torch.save({"model": values, "compression": state}, tmp_path / "checkpoint.pt")
    restored = restore(copy.deepcopy(original), tmp_path / "config.json", tmp_path / "checkpoint.pt")
    assert torch.equal(outputs(restored.model, loader), live)

    # Freezing changes nothing, and leaves the model that it was called for as it was.
    batch = [(next(iter(loader))[0].double(), None)]
    expected = outputs(model.double(), batch)
    torch.testing.assert_close(outputs(ctrl.strip(), batch), expected, rtol=1e-9, atol=1e-9)
    assert all(torch.equal(value, values[name]) for name, value in model.float().state_dict().items())

    # What was masked is zero in the frozen model and in the file.
    frozen = ctrl.strip()
    codes = {module.name: module.codes for module in frozen.modules() if isinstance(module, FrozenWeight)}
    assert codes.keys() == weights.keys()
    assert not any(codes[name][weight == 0].any() for name, weight in weights.items())
    zeros, count = (sum(int(f(w)) for w in weights.values()) for f in (lambda w: (w == 0).sum(), torch.numel))
    ctrl.export_model(str(tmp_path / "model.onnx"))
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer]
    stored = [array for array in stored if array.dtype == np.int8 and array.ndim > 1]
    assert sum(array.size for array in stored) == count
    assert sum(int((array == 0).sum()) for array in stored) >= zeros
    if MAGNITUDE in partners:
        assert zeros / count == pytest.approx(MAGNITUDE["params"]["sparsity_target"], abs=0.01)
    if PRUNING in partners:
        assert int((weights["conv1"] == 0).flatten(1).all(1).sum()) == 8
    if RB in partners:
        assert zeros == weights["conv2"][:, 0].numel()

    # The file computes what the frozen model computes.
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: next(iter(loader))[0].numpy()})[0]
    np.testing.assert_allclose(found, outputs(frozen, loader).numpy(), rtol=1e-4, atol=1e-4)

    # Training goes on from the checkpoint as without it.
    assert resumed_ctrl.compression_stage() == CompressionStage.FULLY_COMPRESSED
    for network_ctrl, network in ((ctrl, model), (resumed_ctrl, resumed)):
        torch.manual_seed(0)
        finetune(network_ctrl, network, loader, epochs=1)
    assert torch.equal(outputs(resumed, loader), outputs(model, loader))


def test_final_masks_of_pruning_stay_final_after_a_resume(together, wide):
    section = {"importance": {"indicator": "statistics"}}
    ctrl, model = together(copy.deepcopy(wide), [PRUNING], **section)
    for _ in range(3):
        ctrl.scheduler.epoch_step()
    mask = model.conv1.pre_ops["0"].op.binary_filter_pruning_mask.clone()
    assert int(mask.sum()) == 8
    # By their weights the pruned filters were now the ones to keep.
    model.conv1.weight.data[mask == 0] *= 100
    state = ctrl.get_compression_state()
    resumed_ctrl, resumed = together(wide, [PRUNING], compression_state=state, **section)
    load_state(resumed, model.state_dict(), is_resume=True)
    resumed_ctrl.scheduler.epoch_step()
    assert torch.equal(resumed.conv1.pre_ops["0"].op.binary_filter_pruning_mask, mask)


def test_a_checkpoint_amid_importance_training_resumes_and_the_search_comes_in_its_epoch(together, wide, loader):
    section = {"importance": {"where": "training", "epochs": 2}}
    partners = [MAGNITUDE, DISTILLATION]
    ctrl, model = together(copy.deepcopy(wide), partners, **section)
    finetune(ctrl, model, loader, epochs=1)
    state, values = ctrl.get_compression_state(), copy.deepcopy(model.state_dict())
    resumed_ctrl, resumed = together(copy.deepcopy(wide), partners, compression_state=state, **section)
    load_state(resumed, values, is_resume=True)
    assert torch.equal(outputs(resumed, loader), outputs(model, loader))
    passes = [finetune(c, m, loader, epochs=2) for c, m in ((ctrl, model), (resumed_ctrl, resumed))]
    assert passes[0] == passes[1] == [6] * len(loader) + [1] * len(loader)
    assert resumed_ctrl.policy.bits == ctrl.policy.bits
    torch.testing.assert_close(outputs(resumed, loader), outputs(model, loader))


def test_importance_training_at_creation_is_that_of_a_loop_with_masks_and_all_losses(together, wide, loader):
    partners = [{**MAGNITUDE, "params": {"sparsity_target": 0.3}}, {**DISTILLATION, "scale": 5}]
    at_creation, _ = together(copy.deepcopy(wide), partners)
    in_the_loop, model = together(copy.deepcopy(wide), partners, importance={"where": "training"})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2.5e-5)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / len(loader)))
    )
    in_the_loop.scheduler.epoch_step()
    model.train()
    for images, target in loader:
        optimizer.zero_grad()
        for _ in in_the_loop.policies():
            (nn.functional.cross_entropy(model(images), target) + in_the_loop.loss()).backward()
        optimizer.step()
        schedule.step()
    in_the_loop.scheduler.epoch_step()
    without, _ = together(copy.deepcopy(wide), partners[:1])
    assert in_the_loop.indicators.weights == at_creation.indicators.weights
    assert in_the_loop.indicators.activations == at_creation.indicators.activations
    assert without.indicators.weights != at_creation.indicators.weights


def test_options_of_importance_training_work_beside_distillation_whose_teacher_is_not_frozen(together, wide):
    importance = {"distillation": "teacher", "per_bit_batch_norm": True, "indicator": "normalized"}
    ctrl, model = together(wide, [DISTILLATION, MAGNITUDE], importance=importance)
    assert ctrl.policy.provenance["status"] == "optimal"
    assert any("_kd_original_model" in name for name in model.state_dict())
    for frozen in (ctrl.strip(), ctrl.strip(do_copy=False)):
        assert not any("_kd_original_model" in name for name in frozen.state_dict())


def test_a_killed_importance_training_does_not_go_on_beside_other_algorithms(together, wide, tmp_path):
    calls = []

    def criterion(outputs, target):
        calls.append(0)
        return nn.functional.cross_entropy(outputs, target) * (math.nan if len(calls) > 12 else 1.0)

    section = {"artifacts_dir": str(tmp_path / "artifacts")}
    with pytest.raises(TrainingDivergedError):
        together(copy.deepcopy(wide), [MAGNITUDE], criterion=criterion, **section)
    with pytest.raises(ArtifactError, match=r"tensors in the model's state was \d+, now \d+"):
        together(copy.deepcopy(wide), [DISTILLATION], **section)
    ctrl, _ = together(wide, [MAGNITUDE], **section)
    assert ctrl.policy.provenance["status"] == "optimal"


def test_the_statistics_are_those_of_all(together, wide):
    ctrl, _ = together(wide, [MAGNITUDE, PRUNING, DISTILLATION])
    names = [name for name, _ in ctrl.statistics()]
    assert {"quantization", "magnitude_sparsity", "filter_pruning"} <= set(names)
    assert "GBitOPs" in ctrl.statistics().to_str()


def test_the_rate_of_several_algorithms_is_read_and_set_as_with_one(together, wide):
    one, _ = together(copy.deepcopy(wide), [], importance={"max_steps": 2})
    several, _ = together(wide, [DISTILLATION], importance={"max_steps": 2})
    assert several.compression_rate == several.child_ctrls[-1].compression_rate > 0.5
    assert several.maximal_compression_rate == one.maximal_compression_rate
    several.compression_rate = 0.7
    assert one.maximal_compression_rate >= several.compression_rate >= 0.7


def test_what_the_others_add_is_not_taken_for_the_models_weights_or_run_in_vain(together, wide, caplog):
    with caplog.at_level("INFO", "nncf"):
        together(wide, [DISTILLATION, RB], importance={"indicator": "statistics"})
    messages = [record.message for record in caplog.records]
    assert not [message for message in messages if "stay in float" in message]
    # NNCF says so where the teacher runs without gradients.
    assert not [message for message in messages if "knowledge distillation not possible" in message]


@pytest.mark.parametrize("form", [list, "".join], ids=["list", "string"])
def test_our_ignored_scopes_are_not_those_of_the_others(together, wide, form):
    section = {
        "ignored_scopes": [r"{re}.*\[conv2\].*"],
        "global_keys": {"ignored_scopes": form([r"{re}.*\[conv3\].*"])},
    }
    ctrl, model = together(wide, [MAGNITUDE], **section)
    assert set(ctrl.table.by_name) == {"conv1", "fc"}
    masked = [name for name, module in model.named_modules() if isinstance(module, BinaryMask)]
    assert {name.split(".")[0] for name in masked} == {"conv1", "conv2", "fc"}


def test_the_bias_of_a_pruned_channel_is_rounded_as_it_will_be_frozen(together, wide, loader):
    ctrl, model = together(wide, [PRUNING_WITHOUT_NORMS])
    finetune(ctrl, model, loader, epochs=2)
    batch = [(next(iter(loader))[0].double(), None)]
    found = []
    for network in (model.double(), ctrl.strip()):
        hook = network.bn1.register_forward_hook(lambda module, inputs, output: found.append(output))
        outputs(network, batch)
        hook.remove()
    live, frozen = found
    assert int((live == live[:1, :, :1, :1]).all(dim=(0, 2, 3)).sum()) == 8  # pruned, and not zero
    torch.testing.assert_close(frozen, live, rtol=1e-9, atol=1e-9)


def test_what_the_model_was_trained_with_is_deployed_and_validated(together, wide, loader, tmp_path):
    original = copy.deepcopy(wide)
    ctrl, model = together(wide, [MAGNITUDE, DISTILLATION])
    finetune(ctrl, model, loader, epochs=1)
    images, labels = next(iter(loader))
    report = deploy(ctrl, original, images, labels, tmp_path / "out", latency_rounds=0)
    assert report.passed
    assert (tmp_path / "out" / "model.xml").exists()


@pytest.mark.parametrize("others", [["quantization"], ["llt_quantization"], ["magnitude_sparsity", "movement"]])
def test_what_does_not_work_beside_it_is_refused_by_name(others):
    section = {"algorithm": "llt_quantization", "budget": {"gbitops": 1}}
    algorithms = [section, *({**section, "algorithm": name} for name in others)]
    content = {"input_info": {"sample_size": [1, 2, 7, 9]}, "compression": algorithms}
    named = "itself" if others == ["llt_quantization"] else repr(others[-1])
    with pytest.raises(ConfigError, match=f"cannot be combined with {named}; .* knowledge_distillation"):
        NNCFConfig.from_dict(content)
    with pytest.raises(ConfigError, match="cannot be combined with"):
        NNCFConfig.from_dict({**content, "compression": algorithms[::-1]})


def test_lists_without_our_algorithm_are_left_to_nncf(wide):
    content = {"input_info": {"sample_size": [1, 2, 7, 9]}, "compression": [MAGNITUDE, DISTILLATION]}
    ctrl, _ = create_compressed_model(wide, NNCFConfig.from_dict(content), dump_graphs=False)
    assert type(ctrl) is PTCompositeCompressionAlgorithmController


def test_the_composite_controller_gives_nothing_of_nncfs_own_where_ours_is_meant():
    ours = {name for name, value in vars(LltQuantizationController).items() if not name.startswith("_")}
    from_nncf = {name for name in ours if hasattr(LltCompositeController, name)} - set(vars(LltCompositeController))
    # These NNCF puts together from all algorithms.
    assert from_nncf <= {
        "compression_stage",
        "disable_scheduler",
        "get_state",
        "load_state",
        "statistics",
    }
