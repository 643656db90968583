import copy
import io

import pytest
import torch
from torch import nn

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.errors import InvalidTensorError
from llt_nncf.functional import fake_quantize
from llt_nncf.functional import lsq_step_size
from llt_nncf.quantizers import SwitchableQuantizer

BITS = (6, 5, 4, 3, 2)


def started(**kwargs) -> SwitchableQuantizer:
    """A quantizer that is ready for values of mean magnitude 0.5."""
    quantizer = SwitchableQuantizer(BITS, **kwargs)
    for num_bits in BITS:
        step_size = lsq_step_size(torch.tensor([0.5]), num_bits=num_bits, signed=quantizer.signed)
        quantizer.set_step_size(num_bits, step_size)
    return quantizer


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_candidates_are_kept_in_descending_order_and_the_highest_is_active_first():
    quantizer = SwitchableQuantizer([2, 6, 4])
    assert quantizer.candidate_bits == (6, 4, 2)
    assert quantizer.num_bits == 6


@pytest.mark.parametrize("num_bits", BITS)
def test_switching_uses_the_step_size_and_the_range_of_that_bit_width(num_bits: int):
    quantizer = started()
    quantizer.num_bits = num_bits
    x = values(500)
    assert quantizer.num_bits == num_bits
    assert torch.equal(quantizer(x), fake_quantize(x, quantizer.step_size(num_bits), num_bits=num_bits, signed=True))
    assert len(quantizer(x).unique()) <= 2**num_bits


def test_step_size_without_an_argument_is_the_active_one():
    quantizer = started()
    quantizer.num_bits = 3
    assert torch.equal(quantizer.step_size(), quantizer.step_size(3))


def test_signed_is_switchable_and_changes_the_range():
    quantizer = started()
    quantizer.num_bits = 2
    for num_bits in BITS:
        quantizer.set_step_size(num_bits, torch.tensor([1.0]))
    x = torch.tensor([-9.0, 9.0])
    assert quantizer(x).tolist() == [-2.0, 1.0]
    quantizer.signed = False
    assert quantizer(x).tolist() == [0.0, 3.0]


def test_only_weights_at_8_bits_use_a_narrow_range():
    x = torch.tensor([-1e6])
    for is_weight, num_bits, lowest in [(True, 8, -127), (True, 7, -64), (False, 8, -128), (False, 7, -64)]:
        quantizer = SwitchableQuantizer([8, 7], is_weight=is_weight)
        quantizer.num_bits = num_bits
        quantizer.set_step_size(num_bits, torch.tensor([1.0]))
        assert quantizer(x).item() == lowest


def test_a_per_channel_quantizer_has_a_step_size_for_each_channel():
    quantizer = SwitchableQuantizer(BITS, scale_shape=(3, 1, 1, 1))
    quantizer.set_step_size(4, torch.tensor([0.1, 0.2, 0.6]).view(3, 1, 1, 1))
    assert quantizer.step_size(4).flatten().tolist() == pytest.approx([0.1, 0.2, 0.6])
    assert quantizer(values(3, 2, 3, 3)).shape == (3, 2, 3, 3)


def test_the_range_of_an_input_is_kept_at_8_bits_and_trained_below():
    for bits, trained in (((8,), False), ((7,), True), ((8, 4), True)):
        quantizer = SwitchableQuantizer(bits)
        quantizer.keep_range()
        assert quantizer.raw_step_sizes.requires_grad is trained
        assert quantizer(values(10)).requires_grad is trained


def test_gradients_reach_the_active_step_size_only():
    quantizer = started()
    for index, num_bits in enumerate(BITS):
        quantizer.zero_grad()
        quantizer.num_bits = num_bits
        quantizer(values(100)).square().sum().backward()
        reached = quantizer.raw_step_sizes.grad.flatten() != 0
        assert reached.tolist() == [i == index for i in range(len(BITS))]


def test_passes_at_every_bit_width_add_up_to_the_gradient_of_all_step_sizes():
    quantizer = started()
    single = []
    for num_bits in BITS:
        quantizer.num_bits = num_bits
        (grad,) = torch.autograd.grad(quantizer(values(100)).square().sum(), quantizer.raw_step_sizes)
        single.append(grad)
    for num_bits in BITS:
        quantizer.num_bits = num_bits
        quantizer(values(100)).square().sum().backward()
    torch.testing.assert_close(quantizer.raw_step_sizes.grad, sum(single))


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, lr=30.0), lambda p: torch.optim.Adam(p, lr=0.5)])
def test_step_sizes_stay_positive_under_a_reckless_optimizer(make):
    quantizer = started()
    optimizer = make(quantizer.parameters())
    crossed = False
    for step in range(60):
        quantizer.num_bits = BITS[step % len(BITS)]
        optimizer.zero_grad()
        x = values(200, seed=step)
        quantizer(x).square().mean().backward()
        optimizer.step()
        crossed |= bool((quantizer.raw_step_sizes < 0).any())
        for num_bits in BITS:
            step_size = quantizer.step_size(num_bits)
            assert torch.isfinite(step_size).all()
            assert (step_size > 0).all()
    assert crossed, "the trajectory never tried to make a step size negative, so it shows nothing"


def test_trajectory_equals_plain_lsq_with_one_scalar_per_bit_width():
    quantizer = started()
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.01, momentum=0.9)
    plain = {bits: nn.Parameter(quantizer.step_size(bits).detach().clone()) for bits in BITS}
    reference = torch.optim.SGD(plain.values(), lr=0.01, momentum=0.9)
    for step in range(20):
        x = values(100, seed=step)
        optimizer.zero_grad()
        reference.zero_grad()
        for num_bits in BITS:
            quantizer.num_bits = num_bits
            (quantizer(x) - x).square().mean().backward()
            # The features of one sample: x has one of them.
            grid = {"num_bits": num_bits, "signed": True, "grad_scale": (2 ** (num_bits - 1) - 1) ** -0.5}
            (fake_quantize(x, plain[num_bits], **grid) - x).square().mean().backward()
        optimizer.step()
        reference.step()
    for num_bits in BITS:
        # The magnitude plus 1e-8 is the only difference.
        torch.testing.assert_close(quantizer.step_size(num_bits), plain[num_bits], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("num_bits", "rate"), [(8, 0.1), (7, 1.0), (2, 1.0)])
def test_step_sizes_of_8_bits_learn_at_a_tenth_of_lsqs_rate(num_bits: int, rate: float):
    quantizer = SwitchableQuantizer([num_bits], is_weight=False)
    quantizer.set_step_size(num_bits, torch.tensor(0.3))
    plain = quantizer.step_size().detach().requires_grad_()
    x = values(64)  # one feature in each sample
    qmax = 2 ** (num_bits - 1) - 1
    quantizer(x).square().sum().backward()
    fake_quantize(x, plain, num_bits=num_bits, signed=True, grad_scale=qmax**-0.5).square().sum().backward()
    torch.testing.assert_close(quantizer.raw_step_sizes.grad[0], rate * plain.grad)


def test_state_dict_brings_back_step_sizes_sign_and_active_bits():
    source = started()
    source.num_bits = 3
    source.signed = False
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    target = SwitchableQuantizer(BITS)
    target.load_state_dict(torch.load(file))
    assert (target.num_bits, target.signed) == (3, False)
    assert torch.equal(target.raw_step_sizes, source.raw_step_sizes)
    assert torch.equal(target(values(50)), source(values(50)))
    assert (copy.deepcopy(source).num_bits, copy.deepcopy(source).signed) == (3, False)


def test_state_dict_inside_a_model_is_loaded_too():
    source, target = nn.Sequential(started()), nn.Sequential(started())
    source[0].num_bits = 2
    target.load_state_dict(source.state_dict())
    assert target[0].num_bits == 2


def test_no_state_of_an_unloaded_module_is_shared_with_its_source():
    source = started()
    target = SwitchableQuantizer(BITS)
    target.load_state_dict(source.state_dict())
    source.num_bits = 2
    source.set_step_size(6, torch.tensor([9.0]))
    assert target.num_bits == 6
    assert target.step_size(6).item() != 9.0


@pytest.mark.parametrize("bits", [[], [4, 4], [1, 4], [9], [4.0]])
def test_bad_candidates_are_refused(bits):
    with pytest.raises(InvalidBitWidthError):
        SwitchableQuantizer(bits)


def test_bit_widths_that_are_not_held_are_refused_with_the_candidates_named():
    quantizer = started()
    for use in (
        lambda: setattr(quantizer, "num_bits", 8),
        lambda: quantizer.step_size(8),
        lambda: quantizer.set_step_size(8, torch.ones(1)),
    ):
        with pytest.raises(InvalidBitWidthError, match=r"\[6, 5, 4, 3, 2\]"):
            use()
    assert quantizer.num_bits == 6


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_step_sizes_that_are_not_positive_and_finite_are_refused_and_change_nothing(value: float):
    quantizer = started()
    before = quantizer.raw_step_sizes.detach().clone()
    with pytest.raises(InvalidTensorError):
        quantizer.set_step_size(4, torch.tensor([value]))
    assert torch.equal(quantizer.raw_step_sizes, before)


def test_repr_names_the_active_bits_the_candidates_and_the_sign():
    assert "num_bits=6 of [6, 5, 4, 3, 2], signed=True" in repr(started())


def test_a_checkpoint_with_other_candidates_is_refused():
    saved = SwitchableQuantizer((4, 3)).state_dict()
    with pytest.raises(InvalidBitWidthError, match=r"\[4, 3\]"):
        SwitchableQuantizer((3, 2)).load_state_dict(saved)
