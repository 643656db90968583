"""NNCF's initializers, layers that were frozen before, and the factor on the gradients of step sizes."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler
from torch.utils.data import DataLoader
from torch.utils.data import SequentialSampler

from llt_nncf.errors import ConfigError
from llt_nncf.errors import InvalidTensorError
from llt_nncf.errors import MissingInitArgsError


def input_quantizer(ctrl, layer):
    return ctrl.quantizers.activations[ctrl.table.by_name[layer].activation_group]


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ({"type": "min_max"}, lambda x: np.abs(x).max()),
        ({"type": "mean_min_max"}, lambda x: np.abs(x).reshape(2, -1).max(axis=1).mean()),
        ({"type": "percentile", "params": {"min_percentile": 10, "max_percentile": 90}}, None),
        ({"type": "mean_percentile", "params": {"min_percentile": 10, "max_percentile": 90}}, None),
        ({"type": "threesigma"}, None),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_ranges_start_as_initializer_range_says(create, residual, loader, init, expected):
    images = np.concatenate([batch.numpy() for batch, _ in loader])[:64]
    ctrl, _ = create(residual, {"initializer": {"range": {"num_init_samples": 64, **init}}})
    step_size = float(input_quantizer(ctrl, "conv1").step_size(8).detach())
    if "percentile" in init["type"]:
        low, high = np.percentile(images, (10, 90))
        np.testing.assert_allclose(step_size * 127, max(-low, high), rtol=0.1)
    elif expected is None:
        median = np.median(images)
        deviation = 1.4826 * np.median(np.abs(images - median))
        np.testing.assert_allclose(step_size * 127, np.abs(median) + 3 * deviation, rtol=0.1)
    else:
        np.testing.assert_allclose(step_size * 127, expected(images), rtol=0.02)


def test_ranges_start_by_layer_where_the_range_is_a_list(create, residual, loader):
    images = np.concatenate([batch.numpy() for batch, _ in loader])[:64]
    entries = [
        {"type": "min_max", "num_init_samples": 64, "target_scopes": ["{re}nncf_model_input"]},
        {
            "type": "percentile",
            "num_init_samples": 64,
            "target_scopes": "{re}.*",
            "ignored_scopes": ["{re}model_input"],
        },
    ]
    ctrl, _ = create(copy.deepcopy(residual), {"initializer": {"range": entries}})
    np.testing.assert_allclose(
        float(input_quantizer(ctrl, "conv1").step_size(8)) * 127, np.abs(images).max(), rtol=1e-5
    )
    by_group = [{**entries[0], "target_scopes": "{re}.*", "target_quantizer_group": "weights"}]
    with pytest.raises(ConfigError, match="compression.initializer.range: Location .* does not match any"):
        create(copy.deepcopy(residual), {"initializer": {"range": by_group}})
    with pytest.raises(ConfigError, match="matches more than one .* exactly one entry"):
        create(residual, {"initializer": {"range": [entries[0], {**entries[1], "ignored_scopes": []}]}})


def test_batch_norms_are_adapted_after_the_search_unless_the_samples_are_0(create, residual):
    before = residual.bn2.running_mean.clone()
    for samples, moves in ((0, False), (64, True)):
        initializer = {
            "range": {"num_init_samples": 64},
            "batchnorm_adaptation": {"num_bn_adaptation_samples": samples},
        }
        _, model = create(copy.deepcopy(residual), {"initializer": initializer})
        assert (not torch.equal(model.bn2.running_mean, before)) is moves


def batch_sampled(loader):
    return DataLoader(loader.dataset, batch_sampler=BatchSampler(SequentialSampler(loader.dataset), 32, drop_last=True))


@pytest.mark.parametrize("made", [list, batch_sampled], ids=["list", "batch-sampler"])
@pytest.mark.parametrize("samples", [(64, 0), (0, 64)], ids=["ranges", "batch-norms"])
def test_a_loader_without_batch_size_is_refused_where_samples_are_counted(create, residual, loader, made, samples):
    initializer = {
        "range": {"num_init_samples": samples[0]},
        "batchnorm_adaptation": {"num_bn_adaptation_samples": samples[1]},
    }
    with pytest.raises(MissingInitArgsError, match=r"no batch_size.* register a DataLoader with batch_size"):
        create(residual, {"initializer": initializer}, data=made(loader))


@pytest.mark.parametrize("made", [list, batch_sampled], ids=["list", "batch-sampler"])
def test_a_loader_without_batch_size_will_do_where_no_samples_are_counted(create, residual, loader, made):
    initializer = {"range": {"num_init_samples": 0}, "batchnorm_adaptation": {"num_bn_adaptation_samples": 0}}
    ctrl, _ = create(residual, {"initializer": initializer}, data=made(loader))
    assert len(ctrl.table.layers) == 5


def test_frozen_layers_are_quantized_and_do_not_move(create, residual, loader, check_export):
    residual.conv2.weight.requires_grad_(False)
    residual.bn2.weight.requires_grad_(False)
    residual.bn2.bias.requires_grad_(False)
    before = [tensor.detach().clone() for tensor in (residual.conv2.weight, residual.bn2.weight, residual.bn2.bias)]
    importance = {"weight_decay": 0.1, "learning_rate": 0.1, "restore_weights": False}
    moved = residual.conv3.weight.detach().clone()
    ctrl, model = create(residual, {"importance": importance, "budget": {"average_weight_bits": 4}})
    assert not torch.equal(model.conv3.weight, moved)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    x, target = next(iter(loader))
    for _ in ctrl.policies():
        nn.functional.cross_entropy(model(x), target).backward()
    optimizer.step()
    after = [model.conv2.weight, model.bn2.weight, model.bn2.bias]
    assert all(torch.equal(new, old) for new, old in zip(after, before, strict=True))
    assert len(ctrl.quantizers.weights["conv2"].candidate_bits) == 5
    assert bool(ctrl.quantizers.weights["conv2"].raw_step_sizes.grad.any())
    check_export(ctrl)


@pytest.mark.parametrize("place", ["config", "section"])
def test_the_gradients_of_step_sizes_are_multiplied(create, residual, loader, place):
    x, target = next(iter(loader))

    def gradients(section, **top):
        ctrl, model = create(copy.deepcopy(residual), section, **top)
        model.eval()
        for _ in ctrl.policies():
            nn.functional.cross_entropy(model(x), target).backward()
        steps = {id(quantizer.raw_step_sizes) for quantizer in ctrl.quantizers.all()}
        grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        return grads, {name for name, parameter in model.named_parameters() if id(parameter) in steps}

    plain, names = gradients({})
    switch = {"compression_lr_multiplier": 0.25}
    multiplied, _ = gradients(switch if place == "section" else {}, **(switch if place == "config" else {}))
    for name, gradient in plain.items():
        assert torch.equal(multiplied[name], gradient * (0.25 if name in names else 1.0)), name
    assert any(bool(plain[name].any()) for name in names & set(plain))


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "infinity"])
def test_data_that_is_not_finite_is_an_error_that_names_the_place(compress, residual, loader, value):
    loader.dataset.tensors[0][3] = value
    with pytest.raises(InvalidTensorError, match=r"/nncf_model_input_0 was to get its range.*registered data loader"):
        compress(residual)
