"""Compression states: plain JSON that brings a model back bit by bit in every stage, or is refused by name."""

import copy
import json
import random
import re
from pathlib import Path

import nncf
import numpy as np
import pytest
import torch
from nncf.api.compression import CompressionStage
from nncf.torch import load_state
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

import llt_nncf
from llt_nncf.adapter.compression_state import check_compression_state
from llt_nncf.adapter.nncf_quantizer import NncfSwitchableQuantizer
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import LltError
from llt_nncf.errors import StageError

NAME = "llt_quantization"
IN_LOOP = {"importance": {"where": "training", "epochs": 2}}
AT_CREATION = {"importance": {"max_steps": 2}}


class Training:
    """A script's loop over numbered steps, which can stop anywhere."""

    def __init__(self, ctrl, model, loader):
        self.ctrl, self.model = ctrl, model
        self.batches = list(loader)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)

    def run(self, first, end):
        self.model.train()
        for step in range(first, end):
            images, target = self.batches[step % len(self.batches)]
            if step % len(self.batches) == 0:
                self.ctrl.scheduler.epoch_step()
            self.ctrl.scheduler.step()
            self.optimizer.zero_grad()
            for _ in self.ctrl.policies():
                (nn.functional.cross_entropy(self.model(images), target) + self.ctrl.loss()).backward()
            self.optimizer.step()

    def outputs(self, *, training):
        self.model.train(training)
        with torch.no_grad():
            return self.model(self.batches[0][0])

    def save(self, path):
        checkpoint = {
            "model": self.model.state_dict(),
            "compression": self.ctrl.get_compression_state(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(checkpoint, path)


def apply_another_policy(ctrl):
    ctrl.apply_policy(BitPolicy.uniform(ctrl.table, weight_bits=5, activation_bits=4))


# Of four steps in an epoch; the search in the script's loop fires in front of step 8.
STAGES = {
    "amid importance training": (IN_LOOP, 6, None),
    "at its end, before the search": (IN_LOOP, 8, None),
    "between search and fine-tuning": (AT_CREATION, 0, None),
    "amid fine-tuning": (IN_LOOP, 10, None),
    "with a policy of the user's": (AT_CREATION, 2, apply_another_policy),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_training_is_the_uninterrupted_one(compress, residual, loader, tmp_path, stage):
    section, steps, then = STAGES[stage]
    whole = Training(*compress(copy.deepcopy(residual), **section), loader)
    whole.run(0, steps)
    if then is not None:
        then(whole.ctrl)
    whole.save(tmp_path / "checkpoint.pt")

    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state = checkpoint["compression"]
    assert json.loads(json.dumps(state)) == state
    torch.manual_seed(99)
    resumed = Training(*compress(type(residual)(), compression_state=state, **section), loader)
    load_state(resumed.model, checkpoint["model"], is_resume=True)
    resumed.optimizer.load_state_dict(checkpoint["optimizer"])

    assert resumed.ctrl.indicators == whole.ctrl.indicators
    assert (whole.ctrl.indicators is None) == (steps in (6, 8))
    for training in (False, True):
        assert torch.equal(resumed.outputs(training=training), whole.outputs(training=training))
    for half in (whole, resumed):
        half.run(steps, steps + 4)
    assert resumed.ctrl.policy == whole.ctrl.policy
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert [name for name in {**ours, **theirs} if not torch.equal(ours[name], theirs[name])] == []
    assert json.dumps(resumed.ctrl.get_compression_state()) == json.dumps(whole.ctrl.get_compression_state())


def test_the_state_says_what_it_is_and_has_all_that_the_search_needs(compress, residual):
    ctrl, _ = compress(residual, **AT_CREATION)
    state = ctrl.get_compression_state()
    own, place = state["ctrl_state"][NAME], state["builder_state"][NAME]
    assert own["schema"] == place["schema"] == "llt_nncf.compression_state/1"
    versions = {"llt_nncf": llt_nncf.__version__, "nncf": nncf.__version__, "torch": torch.__version__}
    assert own["versions"] == versions
    assert own["compression_stage"] == CompressionStage.FULLY_COMPRESSED
    assert own["importance_steps"] == 2
    assert own["budget"] == {"bitops_as": [3, 3]}
    assert BitPolicy.from_dict(own["policy"]).bits == ctrl.policy.bits
    assert own["indicators"]["weights"]["conv2"]["3"] == ctrl.indicators.weights["conv2"][3]
    assert LayerTable.from_dict(place) == ctrl.table


@pytest.fixture
def in_training(compress, residual):
    """The state of a training in the script's loop that has not done a step."""
    return compress(copy.deepcopy(residual), **IN_LOOP)[0].get_compression_state()


def test_the_layers_of_another_model_are_named_before_anything_is_inserted(compress, residual, in_training):
    other = copy.deepcopy(residual)
    other.fc, other.down = nn.Linear(12, 5), nn.Sequential(nn.Conv2d(8, 12, 1, stride=2))
    other.pool = nn.Sequential(nn.Conv2d(12, 12, 1), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(ArtifactError) as caught:
        compress(other, compression_state=in_training, **IN_LOOP)
    text = str(caught.value)
    assert "'fc' has weights of [5, 12] here and of [4, 12] there; 'down' is missing here; 'down.0' is new" in text
    assert "'pool.0' is new here" in text
    assert "same number of classes" in text
    assert not any("quantizer" in name or "pre_ops" in name for name in other.state_dict())


def test_a_forward_with_other_operations_is_refused_by_their_names(compress, residual, in_training):
    class Smooth(type(residual)):
        def forward(self, x):
            x = torch.sigmoid(self.bn1(self.conv1(x)))
            return self.fc(self.pool(torch.sigmoid(self.bn3(self.conv3(self.conv2(x))) + self.down(x))).flatten(1))

    with pytest.raises(ArtifactError, match="no operation 'Residual/relu_0' to quantize here"):
        compress(Smooth(), compression_state=in_training, **IN_LOOP)


def test_quantizers_read_no_value_that_a_gpu_would_have_to_be_waited_for(create, residual, loader):
    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function is torch.ops.aten._local_scalar_dense.default
            return function(*args, **(kwargs or {}))

    _, model = create(residual)
    images, _ = next(iter(loader))
    with Reads() as reads:
        model.train()(images)
    assert reads.count == 4  # the padding of NNCF's four convolutions


def test_quantizers_that_nncf_disables_stay_so_through_a_state_dict(create, residual):
    (_, one), (_, other) = (create(copy.deepcopy(residual)) for _ in range(2))
    quantizers = [
        [module for module in model.modules() if isinstance(module, NncfSwitchableQuantizer)] for model in (one, other)
    ]
    for quantizer in quantizers[0][::2]:
        quantizer.disable_quantization()
    other.load_state_dict(one.state_dict())
    enabled = [index % 2 == 1 for index in range(len(quantizers[0]))]
    for of_model in quantizers:
        assert [quantizer.is_enabled_quantization() for quantizer in of_model] == enabled
        assert [bool(quantizer.enabled) for quantizer in of_model] == enabled
    for quantizer in quantizers[0]:
        quantizer.enable_quantization()
    other.load_state_dict(one.state_dict())
    assert all(quantizer.is_enabled_quantization() for quantizer in quantizers[1])


def test_another_budget_leaves_the_policy_and_is_said(compress, residual, caplog):
    ctrl, _ = compress(copy.deepcopy(residual), **AT_CREATION)
    state = ctrl.get_compression_state()
    again, _ = compress(copy.deepcopy(residual), compression_state=state, **AT_CREATION)
    assert "has no effect" not in caplog.text
    resumed, _ = compress(copy.deepcopy(residual), compression_state=state, budget={"gbitops": 0.00075}, **AT_CREATION)
    assert "compression.budget={'gbitops': 0.00075} has no effect" in caplog.text
    assert again.policy.bits == resumed.policy.bits == ctrl.policy.bits
    assert resumed.search(resumed.indicators).bits != ctrl.policy.bits


def test_attention_goes_by_its_quantizers_after_a_resume_too(compress, residual, in_training):
    torch.backends.mha.set_fastpath_enabled(True)
    compress(residual, compression_state=in_training, **IN_LOOP)
    assert not torch.backends.mha.get_fastpath_enabled()


def changed(state, path, value=None):
    """A copy of ``state`` with another value at ``path``, or without it."""
    result = copy.deepcopy(state)
    *way, last = path
    place = result
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return result


def test_what_is_not_a_state_of_this_algorithm_is_refused_before_the_model_is_touched(compress, residual, in_training):
    theirs = {"quantization": {"quantizer_setup": {}, "build_time_metric_infos": {}, "version": 2}}
    cases = [
        ({}, "has no 'builder_state'"),
        (residual.state_dict(), "has no 'builder_state'"),
        (changed(in_training, ["ctrl_state"]), "has no 'ctrl_state'"),
        ({"builder_state": theirs, "ctrl_state": theirs}, "is of 'quantization', and the config is of 'llt_q"),
        (
            changed(in_training, ["ctrl_state", NAME, "schema"], "llt_nncf.compression_state/2"),
            "Go on with the version",
        ),
        (changed(in_training, ["builder_state", NAME, "schema"], "others.state/1"), "the schema is 'others.state/1'"),
        (changed(in_training, ["builder_state", NAME, "quantizer_setup"]), "'quantizer_setup'"),
        (changed(in_training, ["ctrl_state", NAME, "importance_steps"], "4"), "'4' is not of type int"),
        (changed(in_training, ["ctrl_state", NAME, "scheduler_state"], {}), "'current_step'"),
        (changed(in_training, ["ctrl_state", NAME, "policy"], {"bits": [4]}), "not a bit policy"),
        (changed(in_training, ["ctrl_state", NAME, "policy"], torch.ones(3)), "holds what JSON cannot"),
    ]
    before = list(residual.state_dict())
    for state, text in cases:
        with pytest.raises(ArtifactError, match=text):
            compress(residual, compression_state=state, **IN_LOOP)
        assert list(residual.state_dict()) == before


def paths(content, way=()):
    """Every place in nested dicts and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*way, key)
        yield from paths(value, (*way, key))


def test_a_damaged_state_is_accepted_or_refused_by_an_error_of_ours(compress, residual):
    state = compress(residual, **AT_CREATION)[0].get_compression_state()
    generator, places, refused = random.Random(0), list(paths(state)), 0
    for _ in range(400):
        value = generator.choice([None, -1, "x", [], {}, 1.5, True, 10**30, [[]]])
        try:
            check_compression_state(changed(state, generator.choice(places), value))
        except LltError:
            refused += 1
    assert refused > 200


class Augmented(nn.Module):
    """Draws from PyTorch's generator in every training step."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.bn = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6)
        self.drop, self.fc = nn.Dropout(0.3), nn.Linear(6, 4)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv2(torch.relu(self.conv1(x)))))
        return self.fc(self.drop(x.mean((2, 3))))


def test_the_lines_of_the_documentation_resume_exactly(compress, loader, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs/checkpoints.md").read_text()
    (code,) = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    lines: dict = {}
    exec(code, lines)

    def make(model):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)

    def run(epochs, ctrl, model, optimizer, schedule, shuffled, path=None):
        for epoch in epochs:
            ctrl.scheduler.epoch_step()
            model.train()
            for images, target in shuffled:
                images = images * (1 + 0.1 * np.random.rand()) + 0.1 * random.random()
                optimizer.zero_grad()
                for _ in ctrl.policies():
                    nn.functional.cross_entropy(model(images), target).backward()
                optimizer.step()
            schedule.step()
            if path is not None and epoch == 0:
                lines["save"](path, epoch, ctrl, model, optimizer, schedule, shuffled)
        return model.state_dict(), optimizer.state_dict()

    def shuffle(seed):
        return DataLoader(loader.dataset, 32, shuffle=True, generator=torch.Generator().manual_seed(seed))

    torch.manual_seed(0)
    path, section = str(tmp_path / "checkpoint.pt"), {"importance": {"where": "training", "epochs": 2}}
    ctrl, model = compress(Augmented(), **section)
    expected, moments = run(range(3), ctrl, model, *make(model), shuffle(1), path)

    def create(model, config, compression_state):
        return compress(model, compression_state=compression_state, **config)

    monkeypatch.setitem(lines, "create_compressed_model", create)
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    shuffled = shuffle(5)
    first, *resumed = lines["resume"](path, Augmented(), section, make, shuffled)
    found, found_moments = run(range(first, 3), *resumed, shuffled)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert resumed[0].policy == ctrl.policy
    for index, values in moments["state"].items():
        assert all(torch.equal(values[key], found_moments["state"][index][key]) for key in values)


class Normed(nn.Module):
    """Quantizers behind batch norms of one and of three dimensions, which feed additions."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(9, 6, 3, padding=1), nn.Conv1d(6, 6, 3, padding=1)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(6), nn.BatchNorm1d(6)])
        self.conv, self.norm = nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2)
        self.fc = nn.Linear(2, 4)

    def forward(self, x):
        x = torch.relu(self.norms[0](self.convs[0](x.reshape(-1, 9, 14))))
        x = torch.relu(self.norms[1](self.convs[1](x)) + x).reshape(-1, 1, 6, 7, 2)
        x = torch.relu(self.norm(self.conv(x)) + x)
        return self.fc(x.mean((2, 3, 4)))


def test_quantizers_behind_batch_norms_of_all_dimensions_keep_their_names(compress):
    ctrl, model = compress(Normed())
    state, weights = ctrl.get_compression_state(), model.state_dict()
    assert any("NNCFBatchNorm1d" in name for name in weights)
    assert any("NNCFBatchNorm3d" in name for name in weights)
    _, again = compress(Normed(), compression_state=state, register=False)
    load_state(again, copy.deepcopy(weights), is_resume=True)
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize(
    ("wrap", "remedy"),
    [
        (torch.compile, "give the module that was compiled"),
        (nn.DataParallel, "put the compressed model into it"),
        (lambda model: torch.jit.trace(model, torch.zeros(1, 2, 7, 9)), "give the module that it was made of"),
    ],
    ids=["compiled", "parallel", "script"],
)
def test_a_model_that_nncf_cannot_look_into_is_refused_with_the_remedy(compress, residual, wrap, remedy):
    with pytest.raises(StageError, match=remedy):
        compress(wrap(residual.eval()))


def test_a_given_policy_that_exceeds_the_budget_is_said(compress, residual, tmp_path, caplog):
    ctrl, _ = compress(copy.deepcopy(residual))
    path = BitPolicy.uniform(ctrl.table, weight_bits=6, activation_bits=6).save(tmp_path / "policy.json")
    caplog.clear()
    compress(residual, policy=str(path))
    assert "The policy in use exceeds compression.budget: bitops_as (" in caplog.text


def test_artifacts_that_cannot_be_written_are_said_with_the_key(compress, residual, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"file, from compression.artifacts_dir or log_dir, cannot be written to"):
        compress(residual, artifacts_dir=str(tmp_path / "file"))
