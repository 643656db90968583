"""What the look for branches on ``self.training`` leaves behind: nothing."""

import torch
from torch import nn
from torch.utils.data import DataLoader

from llt_nncf.adapter.init_batches import InitBatches
from llt_nncf.adapter.training_branches import check_training_branches
from llt_nncf.indicators.random_state import random_state


def test_the_generators_and_the_model_are_as_before(compress, residual, loader):
    model = nn.Sequential(residual, nn.Dropout(0.5), nn.Linear(4, 4))
    ctrl, compressed = compress(model)
    shuffled = DataLoader(loader.dataset, 32, shuffle=True, generator=torch.Generator().manual_seed(3))
    batches = InitBatches(shuffled)
    before, tensors = (
        random_state(batches, torch.device("cpu")),
        {k: v.clone() for k, v in compressed.state_dict().items()},
    )
    compressed.train()
    check_training_branches(compressed, ctrl.quantizers, batches)
    after = random_state(batches, torch.device("cpu"))
    assert all(module.training for module in compressed.modules())
    assert torch.equal(after["torch"], before["torch"])
    assert [state.tolist() for state in after["loader"]] == [state.tolist() for state in before["loader"]]
    assert len(after["loader"]) == 1
    assert all(torch.equal(value, tensors[key]) for key, value in compressed.state_dict().items())
