"""What the results in a folder were made with, so that nothing else is mixed with them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from setting import Setting

from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import save_json
from llt_nncf.errors import ConfigError

_SCHEMA = "llt_nncf.comparison_plan/1"
# A method's budgets, a list, say which cells there are, not what is in them.
_FREE = ("about", "label", "budgets")
_GROWING = ("methods", "budgets", "indicators")
_OF_SEARCH = ("alpha", "power")


def keep_plan(setting: Setting, *, compare_weights: bool = True) -> None:
    """
    Writes the plan beside the results, or compares it with the one that they were made with.

    Texts may change, and methods, budgets, indicators and seeds may be added or left out.

    :param setting: What is compared, where.
    :param compare_weights: Whether the float model's weights must be the same, which they need not where none are used.
    :raises ConfigError: If the results in the folder would not be comparable with those to come; what differs is named.
    """
    path = setting.out / "plan.json"
    samples = {"train_samples": setting.train_samples, "test_samples": setting.test_samples}
    now = json.loads(json.dumps({**dataclasses.asdict(setting.plan), **samples}))
    del now["seeds"]
    now["weights_sha256"] = hashlib.sha256(setting.weights.read_bytes()).hexdigest() if setting.weights else None
    before = load_json(path, _SCHEMA) if path.exists() else now
    if not compare_weights:
        now["weights_sha256"] = before["weights_sha256"]
    changes = list(_changes(_in_use(before), _in_use(now)))
    if changes:
        msg = (
            f"{setting.out} has results of another plan: {'; '.join(changes)}. Use another --out, or delete the folder."
        )
        raise ConfigError(msg)
    save_json(path, _SCHEMA, {**now, **{key: {**before[key], **now[key]} for key in _GROWING}})


def _in_use(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan without the options of our search where a method does not search: their defaults are free to change."""
    methods = {
        name: {key: value for key, value in method.items() if method["kind"] == "indicators" or key not in _OF_SEARCH}
        for name, method in plan["methods"].items()
    }
    return {**plan, "methods": methods}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*before, *now]):
        if where.removesuffix(".") in _GROWING and not (key in before and key in now):
            continue
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{where}{key}.")
        elif old != new and key not in _FREE:
            yield f"{where}{key} was {old!r} and is {new!r}"
