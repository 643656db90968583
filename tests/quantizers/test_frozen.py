import pytest
import torch

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.functional import fake_quantize
from llt_nncf.quantizers import FrozenActivationQuantizer
from llt_nncf.quantizers import FrozenWeight


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("num_bits", range(2, 9))
def test_activation_quantizer_computes_what_the_switchable_one_did(num_bits: int, signed: bool):
    step = torch.tensor([0.37])
    frozen = FrozenActivationQuantizer(step, num_bits=num_bits, signed=signed, name="relu")
    x = 20 * torch.randn(500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(frozen(x), fake_quantize(x, step, num_bits=num_bits, signed=signed))
    assert list(frozen.parameters()) == []


def test_weight_gives_codes_times_step_size_whatever_it_is_called_with():
    codes = torch.tensor([[-4, 3], [0, 1]], dtype=torch.int32)
    step = torch.tensor([[0.5], [2.0]])
    frozen = FrozenWeight(codes, step, num_bits=3, name="fc")
    expected = torch.tensor([[-2.0, 1.5], [0.0, 2.0]])
    assert frozen.codes.dtype == torch.int8
    assert torch.equal(frozen(), expected)
    assert torch.equal(frozen(torch.zeros(7)), expected)
    assert list(frozen.parameters()) == []


def test_constants_are_copies():
    step = torch.ones(1, requires_grad=True)
    frozen = FrozenActivationQuantizer(step, num_bits=4, signed=True, name="relu")
    with torch.no_grad():
        step.fill_(9.0)
    assert frozen.step_size.item() == 1.0
    assert not frozen.step_size.requires_grad


@pytest.mark.parametrize("num_bits", range(2, 9))
def test_weight_codes_reach_from_qmin_to_minus_qmin_inside_int8(num_bits: int):
    qmin = -(2 ** (num_bits - 1))
    highest = min(-qmin, 127)
    FrozenWeight(torch.tensor([qmin, highest]), torch.ones(1), num_bits=num_bits, name="conv")
    for code in (qmin - 1, highest + 1):
        with pytest.raises(InvalidBitWidthError, match=r"conv: codes .* do not fit into"):
            FrozenWeight(torch.tensor([code, 0]), torch.ones(1), num_bits=num_bits, name="conv")


def test_unsupported_bits_are_refused():
    with pytest.raises(InvalidBitWidthError):
        FrozenActivationQuantizer(torch.ones(1), num_bits=9, signed=True, name="relu")
    with pytest.raises(InvalidBitWidthError):
        FrozenWeight(torch.zeros(2), torch.ones(1), num_bits=1, name="conv")


def test_state_dict_holds_the_constants():
    source = FrozenWeight(torch.tensor([[1, -1]]), torch.tensor([0.25]), num_bits=2, name="fc")
    target = FrozenWeight(torch.tensor([[0, 0]]), torch.ones(1), num_bits=2, name="fc")
    target.load_state_dict(source.state_dict())
    assert torch.equal(target(), source())
