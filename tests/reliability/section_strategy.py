"""Configs with an ``llt_quantization`` section, made from its live schema: right, or with one or two faults in it."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

_NODE = "Net/NNCFConv2d[conv2]/conv2d_0"
_NAMES = [_NODE, "{re}.*fc.*", "conv1", "conv*", "{re}.*conv.*", "*", "", "größe", "x" * 300, "\x00", "../.."]
# What people write, and what only a program writes; JSON has no more kinds of values.
_ODD = [
    None,
    True,
    False,
    0,
    -1,
    9,
    10**30,
    10**400,
    -(10**400),
    0.5,
    4.0,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "4",
    "auto",
    "größe\u2028\U0001f600",
    "x" * 2000,
    [],
    {},
    [[]],
    [None],
    [4, "4"],
    {"": {}},
    {"a": {"b": [{"c": None}]}},
]


def odd_values() -> st.SearchStrategy[Any]:
    """Values that hardly any key takes."""
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    return st.sampled_from([*_ODD, deep]).map(copy.deepcopy)


def from_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a JSON schema allows, for the keywords that the section's has."""
    for alternatives in ("oneOf", "anyOf"):
        if alternatives in schema:
            return st.one_of([from_schema(one) for one in schema[alternatives]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type", [])
    return st.one_of(
        [_OF_TYPE[kind](schema) for kind in ([kinds] if isinstance(kinds, str) else kinds)] or odd_values()
    )


def _number(schema: dict[str, Any], kind: Any = st.floats) -> st.SearchStrategy[Any]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -10))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100))
    if kind is st.integers:
        return st.integers(low, min(high, low + 100))
    floats = st.floats(low, high, exclude_min="exclusiveMinimum" in schema, exclude_max="exclusiveMaximum" in schema)
    return floats | st.integers(low + 1, max(high - 1, low + 1)) if high - low > 2 else floats


def _array(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    items = from_schema(schema["items"]) if "items" in schema else odd_values()
    least = schema.get("minItems", 0)
    unique = {"unique_by": repr} if schema.get("uniqueItems") else {}
    return st.lists(items, min_size=least, max_size=schema.get("maxItems", least + 3), **unique)


def _object(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    properties = schema.get("properties", {})
    if properties:
        required = schema.get("required", [])
        optional = [key for key in properties if key not in required]
        chosen = st.lists(st.sampled_from(optional), unique=True, max_size=3) if optional else st.just([])
        return chosen.flatmap(
            lambda keys: st.fixed_dictionaries({key: from_schema(properties[key]) for key in [*required, *keys]})
        )
    patterns = schema.get("patternProperties")
    values = schema.get("additionalProperties")
    if patterns:
        ((_, inner),) = patterns.items()
        return st.dictionaries(st.sampled_from("8765432"), from_schema(inner), max_size=3)
    return st.dictionaries(st.sampled_from(_NAMES), from_schema(values) if values else odd_values(), max_size=2)


_OF_TYPE = {
    "integer": lambda schema: _number(schema, st.integers),
    "number": _number,
    "boolean": lambda _: st.booleans(),
    "string": lambda schema: st.sampled_from([name for name in _NAMES if len(name) >= schema.get("minLength", 0)]),
    "null": lambda _: st.none(),
    "array": _array,
    "object": _object,
}


def sections(properties: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """
    Sections without a fault that the schema can see, though their keys may contradict each other.

    :param properties: Schema of every key.
    """
    keys = st.lists(st.sampled_from(sorted(set(properties) - {"algorithm", "budget"})), unique=True, max_size=4)
    budget = st.just({"bitops_as": {"weight_bits": 4, "activation_bits": 4}}) | from_schema(properties["budget"])
    return st.tuples(keys, budget).flatmap(
        lambda drawn: st.fixed_dictionaries(
            {
                "algorithm": st.just("llt_quantization"),
                "budget": st.just(drawn[1]),
                **{key: from_schema(properties[key]) for key in drawn[0]},
            }
        )
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys and indices that lead to everything inside ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def spoilt(draw: Any, whole: st.SearchStrategy[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any], set[str]]:
    """
    Sections with one or two faults: a value of another kind, a misspelt key, a key too many, one too few.

    :param whole: Sections to start from.
    :return: The section as it was, the section with the faults, and the keys of the section that these are in.
    """
    before = draw(whole)
    section, keys = copy.deepcopy(before), set()
    for _ in range(draw(st.integers(1, 2))):
        left = sorted(set(places(section)) - {("algorithm",)}, key=repr)
        if not left:
            break
        *to_parent, key = draw(st.sampled_from(left))
        parent = section
        for step in to_parent:
            parent = parent[step]
        fault, name = draw(st.sampled_from(["value", "value", "value", "misspelt", "more", "less"])), key
        if fault == "value":
            parent[key] = draw(odd_values())
        elif fault == "less":
            del parent[key]
        elif isinstance(parent, dict):
            name = key[:-1] + key[-1:] * 2 if fault == "misspelt" else draw(st.sampled_from(_NAMES))
            parent[name] = parent.pop(key) if fault == "misspelt" else draw(odd_values())
        keys.add(to_parent[0] if to_parent else name)
    return before, section, keys
