"""Quantizers for plain PyTorch models."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.errors import InvalidTensorError
from llt_nncf.indicators import insert_quantizers
from llt_nncf.indicators import start_step_sizes
from llt_nncf.indicators import train_indicators


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 4, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def test_layers_are_found_in_order_with_macs_counted_by_hand():
    quantizers = insert_quantizers(network(), torch.randn(5, 2, 8, 8), candidate_bits=(2, 4, 6))
    rows = {layer.name: layer for layer in quantizers.table.layers}
    assert list(rows) == ["0", "2", "4", "7"]
    # Output elements times the weights of one filter; 8x8 in, 3x3 out of the strided one.
    assert [layer.macs for layer in rows.values()] == [4 * 64 * 18, 6 * 9 * 18, 4 * 9 * 6, 12]
    assert [layer.weight_count for layer in rows.values()] == [72, 108, 24, 12]
    assert [layer.weight_bits for layer in rows.values()] == [(8,), (6, 4, 2), (6, 4, 2), (8,)]
    assert [quantizer.signed for quantizer in quantizers.activations.values()] == [True, False, True, True]
    # The range of the data is not trained, that of what the layers make of it is.
    trained = [quantizer.raw_step_sizes.requires_grad for quantizer in quantizers.activations.values()]
    assert trained == [False, True, True, True]


def test_depthwise_layers_are_those_whose_filters_read_one_of_many_channels():
    layers = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 4, 3, groups=2)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3))
    quantizers = insert_quantizers(model, torch.randn(2, 1, 8, 8), candidate_bits=(2, 4))
    assert [layer.depthwise for layer in quantizers.table.layers] == [False, True, False, False]


def test_a_plain_model_trains_and_quantizes_weights_and_inputs():
    model, generator = network(), torch.Generator().manual_seed(1)
    data = [(torch.randn(8, 2, 8, 8, generator=generator), torch.arange(8) % 3) for _ in range(4)]
    quantizers = insert_quantizers(model, data[0][0], candidate_bits=(4, 2))
    start_step_sizes(model, quantizers, data, lambda m, batch: m(batch[0]))
    before = quantizers.read_indicators("start")
    result = train_indicators(
        model, quantizers, data, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), candidate_bits=(4, 2)
    )
    assert result.steps == 4
    assert result.indicators.weights["2"] != before.weights["2"]
    quantizers.weights["2"].num_bits = 2
    codes = model[2].weight / quantizers.weights["2"].step_size(2)
    found = set(codes.detach().round().int().flatten().tolist())
    assert {-1, 0, 1} <= found <= {-2, -1, 0, 1}
    torch.testing.assert_close(codes, codes.round())


def test_a_model_without_layers_is_refused():
    with pytest.raises(InvalidTensorError, match="no convolution and no linear layer"):
        insert_quantizers(nn.ReLU(), torch.randn(2, 3), candidate_bits=(4, 2))


def test_bits_switched_back_and_forth_give_bit_equal_outputs():
    model, x = network().eval(), torch.randn(3, 2, 8, 8)
    quantizers = insert_quantizers(model, x, candidate_bits=(6, 4, 2))
    start_step_sizes(model, quantizers, [x], lambda m, batch: m(batch))
    outputs: dict[int, torch.Tensor] = {}
    for bits in (6, 2, 4, 2, 6, 4):
        for quantizer in quantizers.all():
            quantizer.num_bits = bits if bits in quantizer.candidate_bits else 8
        assert torch.equal(outputs.setdefault(bits, model(x)), model(x))
    assert not torch.equal(outputs[6], outputs[2])


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(input=x)


def test_what_cannot_get_quantizers_is_named_and_left_as_it_was():
    x = torch.zeros(2, 4)
    with pytest.raises(InvalidTensorError, match="'fc' is called with its input by keyword"):
        insert_quantizers(ByKeyword(), x, candidate_bits=(4, 2))
    with pytest.warns(FutureWarning, match="weight_norm"):
        normed = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    with pytest.raises(InvalidTensorError, match="The weight of '0' is no parameter: undo"):
        insert_quantizers(normed, x, candidate_bits=(4, 2))
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(InvalidBitWidthError):
        insert_quantizers(model, x, candidate_bits=(9, 2))
    assert not any(parametrize.is_parametrized(module) for module in model)
