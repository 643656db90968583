"""Values of (weight bits, activation bits) as JSON has them: under the key ``w4a6``."""

import re
from collections.abc import Mapping
from typing import Any

from llt_nncf.artifacts.json_file import typed

BitPair = tuple[int, int]
PairToValue = Mapping[BitPair, float]

_KEY = re.compile(r"w([2-8])a([2-8])")


def pairs_to_json(rows: Mapping[str, PairToValue]) -> dict[str, dict[str, float]]:
    """Returns layer name to (key to value)."""
    return {name: {f"w{w}a{a}": value for (w, a), value in values.items()} for name, values in rows.items()}


def pairs_from_json(content: Any) -> dict[str, dict[BitPair, float]]:
    """
    Reads what ``pairs_to_json`` wrote.

    :raises TypeError: If a value is not a number, or one of the two levels not an object.
    :raises ValueError: If a key is none, or bits are outside 2 to 8.
    :raises OverflowError: If a number is too large for a float.
    """
    return {
        name: {_parsed(key): typed(value, float) for key, value in typed(values, dict).items()}
        for name, values in typed(content, dict).items()
    }


def _parsed(key: str) -> BitPair:
    match = _KEY.fullmatch(key)
    if match is None:
        msg = f"{key!r} must be of the form w4a6: weight bits, activation bits, each from 2 to 8"
        raise ValueError(msg)
    return int(match[1]), int(match[2])
