"""Damage as files suffer it: to their bytes, and to the structure of the JSON in them."""

import copy
import json
import random
from typing import Any

from tests.reliability.section_strategy import places

_ODD = [None, True, "4", "", -1, 0, 2.5, 10**30, 10**400, float("nan"), float("inf"), [], {}, [[]], {"x": {"y": []}}]


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """A file that was cut, has bits flipped, bytes blanked, inserted, repeated or swapped, or is empty."""
    changed, at = bytearray(content), rng.randrange(len(content))
    kind = rng.choice(("flip", "flip", "flip", "cut", "blank", "insert", "repeat", "swap", "swap", "empty"))
    if kind == "flip":
        for _ in range(rng.choice((1, 1, 4))):
            changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del changed[at:]
    elif kind == "empty":
        changed.clear()
    elif kind == "blank":
        changed[at : at + 8] = bytes(len(changed[at : at + 8]))
    elif kind == "swap":
        other, length = rng.randrange(len(content)), rng.choice((1, 16))
        first, second = changed[at : at + length], changed[other : other + length]
        if len(first) == len(second) and abs(at - other) >= length:
            changed[at : at + length], changed[other : other + length] = second, first
    else:
        changed[at:at] = rng.randbytes(4) if kind == "insert" else changed[at : at + 32]
    return bytes(changed)


def odd_value(rng: random.Random) -> Any:
    """What stands where something else should."""
    deep: Any = 1
    for _ in range(rng.choice((5, 300))):
        deep = [deep]
    return copy.deepcopy(rng.choice([*_ODD, deep]))


def damaged_structure(content: Any, rng: random.Random) -> Any:
    """A copy in which something is missing, is of another type, too large, negative, doubled or of another schema."""
    content = copy.deepcopy(content)
    *to_parent, key = rng.choice(sorted(places(content), key=repr))
    parent = content
    for step in to_parent:
        parent = parent[step]
    kind = rng.choice(("missing", "odd", "odd", "odd", "negative", "huge", "doubled", "schema"))
    value = parent[key]
    if kind == "missing":
        del parent[key]
    elif kind == "schema" and isinstance(content, dict):
        content["schema"] = rng.choice(["llt_nncf.bit_policy/0", "llt_nncf.indicators/99", 1, None, "/"])
    elif kind == "doubled" and isinstance(parent, list):
        parent.append(copy.deepcopy(value))
    elif kind in ("negative", "huge") and type(value) in (int, float):
        parent[key] = -value if kind == "negative" else value * 10**20
    else:
        parent[key] = odd_value(rng)
    return content


def damaged_json(text: str, rng: random.Random) -> bytes:
    """A JSON file with damage to its bytes, its structure, its encoding, or with a key in it twice."""
    kind = rng.choice(("bytes", "structure", "structure", "structure", "encoding", "twice"))
    if kind == "bytes":
        return damaged_bytes(text.encode(), rng)
    if kind == "encoding":
        return rng.choice((text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode(), text.encode() + b"\xff"))
    if kind == "twice":
        key, value = rng.choice(sorted(json.loads(text).items()))
        return text.replace("{", f"{{{json.dumps(key)}: {json.dumps(value)},", 1).encode()
    return json.dumps(damaged_structure(json.loads(text), rng)).encode()
