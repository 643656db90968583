"""Batch norm statistics after a switch of bits."""

import copy

import pytest
import torch
from torch import nn


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_batch_norms_are_adapted_without_dropout_whatever_mode_the_model_is_in(compress, residual, training):
    # A script comes to the search from its own evaluation, and after a resume from the model's creation.
    residual.conv2 = nn.Sequential(nn.Dropout(0.5), residual.conv2)
    ctrl, model = compress(residual, importance={"indicator": "statistics"})
    before = copy.deepcopy(model.state_dict())
    adapted = []
    for is_training in (False, training):
        model.load_state_dict(before)
        model.train(is_training)
        ctrl.apply_policy(ctrl.policy)
        assert model.conv2[0].training == is_training
        adapted.append(model.bn2.running_mean.clone())
    assert torch.equal(*adapted)
    assert not torch.equal(adapted[0], before["bn2.running_mean"])
