"""NNCF's accuracy-aware training around our algorithm."""

import copy

import pytest
import torch
from nncf import NNCFConfig
from nncf.api.compression import CompressionStage
from nncf.common.accuracy_aware_training import create_accuracy_aware_training_loop
from nncf.torch import create_compressed_model
from nncf.torch import load_state
from nncf.torch import register_default_init_args
from torch import nn

from llt_nncf.artifacts import BitPolicy
from llt_nncf.cost import PolicyCost
from llt_nncf.errors import InfeasibleBudgetError
from llt_nncf.errors import StageError
from llt_nncf.quantizers import FrozenWeight

EARLY_EXIT = {"mode": "early_exit", "params": {"maximal_absolute_accuracy_degradation": 5.0, "maximal_total_epochs": 4}}
ADAPTIVE = {
    "mode": "adaptive_compression_level",
    "params": {
        "maximal_absolute_accuracy_degradation": 5.0,
        "initial_training_phase_epochs": 1,
        "maximal_total_epochs": 8,
        "patience_epochs": 1,
        "initial_compression_rate_step": 0.1,
    },
}


class Script:
    """A training script: model, loader, and what NNCF's loop calls back."""

    def __init__(self, model, loader, folder, training, *, partners=(), accuracy=None, **section):
        content = {
            "input_info": {"sample_size": [1, 2, 7, 9]},
            "compression": [
                {
                    "algorithm": "llt_quantization",
                    "budget": {"bitops_as": {"weight_bits": 5, "activation_bits": 5}},
                    "initializer": {"batchnorm_adaptation": {"num_bn_adaptation_samples": 64}},
                    **section,
                },
                *partners,
            ],
            "accuracy_aware_training": training,
        }
        config = NNCFConfig.from_dict(content)
        self.config = register_default_init_args(config, loader, criterion=nn.CrossEntropyLoss())
        self.loader, self.folder, self.accuracy, self.epochs = loader, folder, accuracy, 0
        self.ctrl, self.model = self.compress(copy.deepcopy(model))

    def compress(self, model, state=None):
        return create_compressed_model(model, self.config, compression_state=state, dump_graphs=False)

    def train_epoch(self, ctrl, model, epoch, optimizer, lr_scheduler):
        model.train()
        for images, target in self.loader:
            ctrl.scheduler.step()
            optimizer.zero_grad()
            for _ in ctrl.policies():
                (nn.functional.cross_entropy(model(images), target) + ctrl.loss()).backward()
            optimizer.step()
        self.epochs += 1

    def validate(self, model, epoch=None):
        if self.accuracy is not None:
            return self.accuracy(self)
        model.eval()
        right = [(model(images).argmax(1) == target).float() for images, target in self.loader]
        return 100 * torch.cat(right).mean().item()

    def run(self):
        loop = create_accuracy_aware_training_loop(
            self.config, self.ctrl, uncompressed_model_accuracy=100.0, dump_checkpoints=False
        )
        model = loop.run(
            self.model,
            train_epoch_fn=self.train_epoch,
            validate_fn=self.validate,
            configure_optimizers_fn=lambda: (torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9), None),
            load_checkpoint_fn=self.load_checkpoint,
            log_dir=str(self.folder),
        )
        assert model is self.model
        return loop

    def load_checkpoint(self, model, path):
        self.loaded = path
        load_state(model, torch.load(path, weights_only=False)["state_dict"], is_resume=True)

    def outputs(self, model):
        model.eval()
        with torch.no_grad():
            return model(next(iter(self.loader))[0])


def resumed_outputs(script, model, path):
    checkpoint = torch.load(path, weights_only=False)
    ctrl, resumed = script.compress(copy.deepcopy(model), checkpoint["compression_state"])
    load_state(resumed, checkpoint["state_dict"], is_resume=True)
    return script.outputs(resumed), ctrl


@pytest.mark.parametrize("where", ["init", "training"])
def test_early_exit_ends_with_its_best_checkpoint(residual, loader, tmp_path, where):
    # The third epoch is the best, and only the last is good enough.
    accuracies = {0: 50.0, 1: 60.0, 2: 80.0, 3: 90.0, 4: 70.0}
    script = Script(
        residual,
        loader,
        tmp_path,
        EARLY_EXIT,
        accuracy=lambda script: accuracies[script.epochs],
        importance={"where": where},
    )
    loop = script.run()
    assert script.epochs == 4
    assert script.ctrl.compression_stage() == CompressionStage.FULLY_COMPRESSED
    assert loop.statistics.compressed_accuracy == 70.0
    outputs, ctrl = resumed_outputs(script, residual, script.loaded)
    assert torch.equal(outputs, script.outputs(script.model))
    assert ctrl.policy.bits == script.ctrl.policy.bits
    assert any(isinstance(module, FrozenWeight) for module in script.ctrl.strip().modules())


def test_early_exit_trains_to_the_accuracy_that_is_asked_for(residual, loader, tmp_path):
    params = {"maximal_absolute_accuracy_degradation": 55.0, "maximal_total_epochs": 8}
    script = Script(residual, loader, tmp_path, {"mode": "early_exit", "params": params})
    loop = script.run()
    assert 0 < script.epochs < 8
    assert loop.statistics.compressed_accuracy == pytest.approx(script.validate(script.model))
    assert loop.statistics.compressed_accuracy >= 45.0


def test_the_adaptive_loop_searches_again_until_the_accuracy_does_not_suffice(residual, loader, tmp_path):
    rates = []

    def accuracy(script):
        rates.append(script.ctrl.compression_rate)
        return 99.0 if rates[-1] < 0.65 else 90.0

    script = Script(residual, loader, tmp_path, ADAPTIVE, accuracy=accuracy)
    script.run()
    assert max(rates) > 0.65 > script.ctrl.compression_rate > rates[0]
    # What it ends with is not the last policy that it tried; policy, bits, checkpoint and files agree all the same.
    outputs, ctrl = resumed_outputs(script, residual, script.loaded)
    assert ctrl.policy.bits == script.ctrl.policy.bits
    assert torch.equal(outputs, script.outputs(script.model))
    frozen = [module for module in script.ctrl.strip().modules() if isinstance(module, FrozenWeight)]
    assert {m.name: m.num_bits for m in frozen} == {name: bits for name, (bits, _) in ctrl.policy.bits.items()}
    again = script.ctrl.get_compression_state()["ctrl_state"]["llt_quantization"]["policy"]
    assert again == script.ctrl.policy.to_dict()


def test_a_sparsity_algorithm_beside_ours_is_what_the_adaptive_loop_turns(residual, loader, tmp_path):
    sparsity = {"algorithm": "magnitude_sparsity", "sparsity_init": 0.2, "params": {"sparsity_target": 0.2}}
    script = Script(
        residual,
        loader,
        tmp_path,
        ADAPTIVE,
        partners=[sparsity],
        accuracy=lambda script: 99.0 if script.ctrl.child_ctrls[0].compression_rate < 0.45 else 90.0,
    )
    policy = script.ctrl.policy
    script.run()
    assert 0.25 < script.ctrl.child_ctrls[0].compression_rate < 0.45
    assert script.ctrl.policy is policy
    frozen = [module for module in script.ctrl.strip().modules() if isinstance(module, FrozenWeight)]
    zeros = sum(int((module.codes == 0).sum()) for module in frozen) / sum(module.codes.numel() for module in frozen)
    assert zeros >= script.ctrl.child_ctrls[0].compression_rate


def test_the_rate_is_the_share_of_bitops_saved_against_8_bits(residual, loader, tmp_path):
    script = Script(residual, loader, tmp_path, EARLY_EXIT)
    ctrl, table = script.ctrl, script.ctrl.table
    fixed = sum(layer.macs for layer in table.layers if layer.is_fixed)
    total = sum(layer.macs for layer in table.layers)
    for bits in (6, 4, 2):
        ctrl.apply_policy(BitPolicy.uniform(table, weight_bits=bits, activation_bits=bits))
        assert ctrl.compression_rate == pytest.approx(1 - (fixed * 64 + (total - fixed) * bits**2) / (total * 64))
    assert ctrl.maximal_compression_rate == pytest.approx(ctrl.compression_rate)
    for rate in (0.3, 0.5, 0.6, ctrl.maximal_compression_rate):
        ctrl.compression_rate = rate
        assert rate <= ctrl.compression_rate <= rate + 0.15
    with pytest.raises(InfeasibleBudgetError, match="gbitops"):
        ctrl.compression_rate = 0.99


def test_other_limits_hold_and_restrictions_are_kept_when_the_rate_is_set(residual, loader, tmp_path):
    budget = {"bitops_as": {"weight_bits": 3, "activation_bits": 3}, "average_weight_bits": 5.0}
    script = Script(
        residual, loader, tmp_path, EARLY_EXIT, budget={**budget, "without_fixed": ["bitops_as"]}, search={"tied": True}
    )
    ctrl = script.ctrl
    ctrl.compression_rate = 0.0
    weights = sum(layer.weight_count for layer in ctrl.table.layers)
    assert PolicyCost.from_policy(ctrl.policy, ctrl.table).weight_bits <= 5.0 * weights
    searched = [ctrl.policy.bits[layer.name] for layer in ctrl.table.layers if not layer.is_fixed]
    assert all(weight_bits == activation_bits for weight_bits, activation_bits in searched)


def test_a_rate_without_indicators_is_refused_with_the_remedy(residual, loader, tmp_path):
    script = Script(residual, loader, tmp_path, EARLY_EXIT)
    path = script.ctrl.policy.save(tmp_path / "policy.json")
    script = Script(residual, loader, tmp_path, EARLY_EXIT, policy=str(path))
    with pytest.raises(StageError, match="needs indicators"):
        script.ctrl.compression_rate = 0.5


def test_an_adaptive_loop_that_would_go_past_the_search_is_refused_with_the_remedy(residual, loader, tmp_path):
    script = Script(residual, loader, tmp_path, ADAPTIVE, importance={"where": "training", "epochs": 3})
    with pytest.raises(StageError, match="initial_training_phase_epochs"):
        script.ctrl.disable_scheduler()
