"""What differs between the options of two runs, in words."""

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any


def changes(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """
    Names every value that is not the same, by the path of its key.

    >>> list(changes({"lr": 0.1, "budget": {"gbitops": 1}}, {"lr": 0.1, "budget": {"gbitops": 2}}))
    ['budget.gbitops was 1 and is 2']
    """
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changes(old, new, f"{where}{key}.")
        elif old != new:
            yield f"{where}{key} was {old!r} and is {new!r}"
