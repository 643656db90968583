import pytest
import torch

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.functional import lsq_step_size
from llt_nncf.functional import min_max_step_size


@pytest.mark.parametrize(
    ("num_bits", "signed", "expected"),
    [
        (2, True, 2 * 0.3 / 1**0.5),  # qmax 1
        (4, True, 2 * 0.3 / 7**0.5),
        (8, True, 2 * 0.3 / 127**0.5),
        (2, False, 2 * 0.3 / 3**0.5),
        (4, False, 2 * 0.3 / 15**0.5),
    ],
)
def test_lsq_starts_at_twice_the_mean_magnitude_over_the_root_of_qmax(num_bits: int, signed: bool, expected: float):
    step = lsq_step_size(torch.tensor([0.3, 0.6]), num_bits=num_bits, signed=signed)
    torch.testing.assert_close(step, torch.tensor([expected, 2 * expected]))


@pytest.mark.parametrize("num_bits", range(2, 9))
def test_min_max_grid_ends_at_the_larger_magnitude(num_bits: int):
    low, high = torch.tensor([-3.0, -1.0]), torch.tensor([2.0, 2.0])
    signed = min_max_step_size(low, high, num_bits=num_bits, signed=True)
    torch.testing.assert_close(signed * (2 ** (num_bits - 1) - 1), torch.tensor([3.0, 2.0]))
    unsigned = min_max_step_size(low, high, num_bits=num_bits, signed=False)
    torch.testing.assert_close(unsigned * (2**num_bits - 1), torch.tensor([2.0, 2.0]))


def test_tensors_of_zeros_still_get_a_positive_step_size():
    zero = torch.zeros(2)
    assert (lsq_step_size(zero, num_bits=4, signed=True) > 0).all()
    assert (min_max_step_size(zero, zero, num_bits=4, signed=True) > 0).all()
    # All values negative, yet declared unsigned: the reach is below zero.
    assert (min_max_step_size(-torch.ones(2), -torch.ones(2), num_bits=4, signed=False) > 0).all()


def test_unsupported_bits_are_refused():
    with pytest.raises(InvalidBitWidthError):
        lsq_step_size(torch.ones(1), num_bits=1, signed=True)
    with pytest.raises(InvalidBitWidthError):
        min_max_step_size(torch.ones(1), torch.ones(1), num_bits=1, signed=True)
