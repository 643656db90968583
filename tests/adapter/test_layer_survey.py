"""Which layers there are, what feeds them, and what is fixed; the expected values are counted by hand."""

import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

from llt_nncf.errors import StageError


def test_the_residual_network_is_surveyed_as_counted_by_hand(compress, residual):
    ctrl, _ = compress(residual)
    rows = ctrl.table.by_name
    # 7x9 input; stride 2 with padding 1 and a 3x3 kernel gives 4x5, and so does the 1x1 downsample.
    counted = {
        "conv1": (7 * 9 * 8 * 2 * 9, 8 * 2 * 9),
        "conv2": (4 * 5 * 12 * 8 * 9, 12 * 8 * 9),
        "down": (4 * 5 * 12 * 8, 12 * 8),
        "conv3": (4 * 5 * 12 * 4 * 9, 12 * 4 * 9),
        "fc": (12 * 4, 12 * 4),
    }
    assert {name: (row.macs, row.weight_count) for name, row in rows.items()} == counted
    assert [name for name, row in rows.items() if row.is_fixed] == ["conv1", "fc"]
    assert rows["conv2"].activation_group == rows["down"].activation_group
    assert len({row.activation_group for row in rows.values()}) == 4
    # The two inputs of the addition and the input of the pooling feed no layer.
    assert set(ctrl.table.unsearched.values()) == {8}
    assert len(ctrl.table.unsearched) == 3


def test_unified_scales_of_a_concat_are_one_activation_quantizer(compress, concat):
    ctrl, _ = compress(concat)
    rows = ctrl.table.by_name
    assert list(rows) == ["stem", "left", "right", "merge", "fc"]
    assert rows["left"].macs == 7 * 9 * 8 * 9
    assert rows["left"].activation_group == rows["right"].activation_group
    assert rows["merge"].activation_bits == (6, 5, 4, 3, 2)
    assert [name for name, row in rows.items() if row.depthwise] == ["left"]


def test_ignored_layers_are_not_in_the_table(compress, residual):
    ctrl, _ = compress(residual, ignored_scopes=["Residual/NNCFConv2d[conv3]/conv2d_0"])
    assert "conv3" not in ctrl.table.by_name


def test_a_float_input_is_counted_at_8_bits(compress, residual):
    ctrl, _ = compress(residual, quantize_inputs=False)
    assert ctrl.table.by_name["conv1"].activation_group == "conv1 (float input)"
    assert ctrl.policy.bits["conv1"] == (8, 8)


def test_per_channel_weights_have_a_step_size_per_channel(compress, residual):
    ctrl, _ = compress(residual, weights={"per_channel": True})
    shapes = {name: quantizer.scale_shape for name, quantizer in ctrl.quantizers.weights.items()}
    assert shapes["conv2"] == (12, 1, 1, 1)
    assert shapes["fc"] == (4, 1)


def test_the_range_of_the_models_input_alone_is_not_trained(compress, residual):
    ctrl, _ = compress(residual)
    kept = {
        name for name, quantizer in ctrl.quantizers.activations.items() if not quantizer.raw_step_sizes.requires_grad
    }
    assert kept == {ctrl.table.by_name["conv1"].activation_group}
    assert all(quantizer.raw_step_sizes.requires_grad for quantizer in ctrl.quantizers.weights.values())


class OverTime(nn.Module):
    """Positions first: what stands there is no batch, as the layer behind the mean shows."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Linear(9, 6), nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.embed(x)).mean(0))


def test_a_first_dimension_that_a_layer_does_not_have_is_no_batch(create):
    data = DataLoader(TensorDataset(torch.randn(8, 14, 9), torch.zeros(8, dtype=torch.long)), batch_size=14)
    ctrl, _ = create(OverTime(), data=data, input_info={"sample_size": [14, 1, 9]})
    assert {name: row.macs for name, row in ctrl.table.by_name.items()} == {"embed": 14 * 9 * 6, "fc": 6 * 4}


class ForTraining(nn.Module):
    """A head whose output only the training reads."""

    def __init__(self):
        super().__init__()
        self.conv, self.head, self.fc = nn.Conv2d(2, 4, 3), nn.Linear(4, 3), nn.Linear(4, 4)

    def forward(self, x):
        x = torch.relu(self.conv(x)).mean((2, 3))
        head, out = self.head(x), self.fc(x)
        return (out, head) if self.training else out


def test_a_layer_whose_output_nothing_reads_is_named_with_the_remedy(create):
    with pytest.raises(StageError, match="head: NNCF does not see what reads its output.*ignored_scopes") as caught:
        create(ForTraining())
    node = re.search("Put '(.+)' into", str(caught.value))[1]
    ctrl, _ = create(ForTraining(), {"ignored_scopes": [node]})
    assert list(ctrl.table.by_name) == ["conv", "fc"]
