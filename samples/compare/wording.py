"""Numbers and lists as a reader wants them."""

from collections.abc import Sequence

from summary import Statistic

_MINUS = "\N{MINUS SIGN}"
_UNBROKEN = "\N{NO-BREAK SPACE}"


def number(value: float, decimals: int = 2) -> str:
    """
    Returns a rounded number with a true minus sign; what is rounded to zero has none.

    >>> number(-1.005e3, 0), number(-0.001)
    ('−1005', '0.00')
    """
    text = f"{value:.{decimals}f}"
    return f"{_MINUS}{text[1:]}" if text.startswith("-") and float(text) != 0 else text.lstrip("-")


def signed(value: float) -> str:
    """
    Returns a difference with its sign.

    >>> signed(0.5), signed(-0.5), signed(0.0)
    ('+0.50', '−0.50', '0.00')
    """
    text = number(value)
    return f"+{text}" if float(f"{value:.2f}") > 0 else text


def percent(text: str) -> str:
    """Returns a number with the sign behind it, which stays on its line."""
    return f"{text}{_UNBROKEN}%"


def with_spread(value: Statistic) -> str:
    """Returns ``mean ± spread``, or the mean alone."""
    return number(value.mean) + ("" if value.spread is None else f" ±{_UNBROKEN}{number(value.spread)}")


def listed(items: Sequence[str]) -> str:
    """
    Joins what a sentence lists.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([*([", ".join(items[:-1])] if len(items) > 1 else []), *items[-1:]])
