import pytest

from llt_nncf.errors import InvalidBitWidthError
from llt_nncf.functional import integer_range


@pytest.mark.parametrize("num_bits", range(2, 9))
def test_number_of_codes_is_a_power_of_two_less_the_one_that_narrow_range_drops(num_bits: int):
    for signed, narrow_range, dropped in [(True, False, 0), (True, True, 1), (False, False, 0), (False, True, 0)]:
        qmin, qmax = integer_range(num_bits, signed=signed, narrow_range=narrow_range)
        assert qmax - qmin + 1 == 2**num_bits - dropped
        assert (qmin < 0) == signed
        if signed:
            assert -qmin == qmax + (0 if narrow_range else 1)


@pytest.mark.parametrize("num_bits", [1, 9, 0, -4, 4.0, True, "4", None])
def test_other_bit_widths_are_refused_with_the_allowed_ones_named(num_bits):
    with pytest.raises(InvalidBitWidthError, match="from 2 to 8"):
        integer_range(num_bits, signed=True)
