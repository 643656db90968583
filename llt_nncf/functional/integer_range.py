"""The integers that a quantizer of a given bit-width may produce."""

from llt_nncf.errors import InvalidBitWidthError

MIN_BITS = 2
MAX_BITS = 8


def integer_range(num_bits: int, *, signed: bool, narrow_range: bool = False) -> tuple[int, int]:
    """
    Returns the smallest and the largest integer code of a uniform quantizer.

    >>> integer_range(4, signed=True), integer_range(4, signed=True, narrow_range=True), integer_range(4, signed=False)
    ((-8, 7), (-7, 7), (0, 15))

    :param num_bits: Bit-width, 2 to 8.
    :param signed: Whether the codes are centred on zero or start at it.
    :param narrow_range: Drops the lowest code of a signed range, so that it is symmetric; no effect on unsigned ones.
    :return: ``(qmin, qmax)``, both inclusive.
    :raises InvalidBitWidthError: If ``num_bits`` is not an integer from 2 to 8.
    """
    if isinstance(num_bits, bool) or not isinstance(num_bits, int) or not MIN_BITS <= num_bits <= MAX_BITS:
        msg = f"num_bits={num_bits!r} is not supported: give an integer from {MIN_BITS} to {MAX_BITS}."
        raise InvalidBitWidthError(msg)
    if not signed:
        return 0, 2**num_bits - 1
    qmax = 2 ** (num_bits - 1) - 1
    return (-qmax if narrow_range else -qmax - 1), qmax
