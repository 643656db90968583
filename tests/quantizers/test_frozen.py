import io

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter that NNCF's models need
def test_pytorchs_own_onnx_export_writes_a_file_that_an_engine_reads():
    quantizer = FrozenActivationQuantizer(torch.tensor(0.25), num_bits=3, signed=False, name="input")
    layer = nn.Conv2d(2, 2, 1, bias=False)
    nn.utils.parametrize.register_parametrization(
        layer,
        "weight",
        FrozenWeight(torch.tensor([[[[3]], [[-4]]], [[[1]], [[0]]]]), torch.tensor([0.5]), num_bits=3, name="conv"),
    )
    file = io.BytesIO()
    x = 2 * torch.rand(1, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.onnx.export(nn.Sequential(quantizer, layer), (x,), file, input_names=["x"], dynamo=False)
    (found,) = onnxruntime.InferenceSession(file.getvalue()).run(None, {"x": x.numpy()})
    codes = np.clip(np.rint(x.double().numpy() / 0.25), 0, 7) * 0.25
    weights = np.array([[1.5, -2.0], [0.5, 0.0]])
    np.testing.assert_allclose(found, np.einsum("oi,nihw->nohw", weights, codes), rtol=0, atol=1e-6)
