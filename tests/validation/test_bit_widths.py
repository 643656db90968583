"""The widths that are read back are the smallest that hold the integers."""

import numpy as np
import pytest

from llt_nncf.validation.bit_widths import weight_bits_needed


@pytest.mark.parametrize("num_bits", range(2, 9))
def test_range_of_a_bit_width_needs_exactly_that_width(num_bits):
    highest = 2 ** (num_bits - 1) - 1
    assert weight_bits_needed(np.array([-highest - 1, highest], np.int8)) == num_bits
    assert weight_bits_needed(np.array([-highest, 0], np.int8)) == max(num_bits, 2)
    if num_bits < 8:
        # The lowest code negated by a folded batch norm still counts, one more does not.
        assert weight_bits_needed(np.array([highest + 1], np.int8)) == num_bits
        assert weight_bits_needed(np.array([highest + 2], np.int8)) == num_bits + 1


def test_weights_of_zero_need_the_smallest_width():
    assert weight_bits_needed(np.zeros(3, np.int8)) == 2
