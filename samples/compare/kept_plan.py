"""What the results in a folder were made with, so that nothing else is mixed with them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from cell_files import CellFiles
from changes import changes
from choices import finished_indicators
from setting import Setting

from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import save_json
from llt_nncf.errors import ConfigError

_SCHEMA = "llt_nncf.comparison_plan/1"
# A method's budgets, a list, say which cells there are, not what is in them.
_FREE = ("about", "label", "budgets")
_GROWING = ("methods", "budgets", "indicators")
_INPUTS = ("weights_sha256", "data")
_OF_SEARCH = ("alpha", "power")


def keep_plan(setting: Setting, *, only_compare: bool = False) -> None:
    """
    Compares the plan with the one that the results were made with, and writes it beside them.

    Texts may change, and so may methods, budgets and indicators without a result; they and seeds may be added or left
    out.

    :param setting: What is compared, where.
    :param only_compare: Writes nothing, and needs neither the data nor the float model's weights.
    :raises ConfigError: If the results in the folder would not be comparable with those to come; what differs is named.
    """
    path = setting.out / "plan.json"
    samples = {"train_samples": setting.train_samples, "test_samples": setting.test_samples}
    now = json.loads(json.dumps({**dataclasses.asdict(setting.plan), **samples}))
    del now["seeds"]
    now |= {} if only_compare else _inputs(setting)
    before = load_json(path, _SCHEMA) if path.exists() else now
    finished = _finished(setting, before, now)
    # Results of before there was a hash of the data have none, and a report needs none.
    unknown = [key for key in _INPUTS if key not in before or key not in now]
    found = list(changes(_in_use(before, finished, unknown), _in_use(now, finished, unknown)))
    if found:
        msg = f"{setting.out} has results of another plan: {'; '.join(found)}. Use another --out, or delete the folder."
        raise ConfigError(msg)
    if not only_compare:
        save_json(path, _SCHEMA, {**now, **{key: {**before[key], **now[key]} for key in _GROWING}})


def _inputs(setting: Setting) -> dict[str, Any]:
    """The files that the results come from."""
    weights = hashlib.sha256(setting.weights.read_bytes()).hexdigest() if setting.weights else None
    return {"weights_sha256": weights, "data": setting.data_fingerprint}


def _finished(setting: Setting, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of what has results that go on to be used, and is in both plans."""
    cells = CellFiles(setting.out).final_choices()
    names = {
        "methods": {cell.method for cell in cells},
        "budgets": {cell.budget for cell in cells},
        "indicators": finished_indicators(setting.out),
    }
    return {key: [name for name in now[key] if name in before[key] and name in names[key]] for key in _GROWING}


def _in_use(plan: Mapping[str, Any], finished: Mapping[str, list[str]], unknown: Iterable[str]) -> dict[str, Any]:
    """What the results depend on: of a method that does not search, no option of our search."""

    def used(row: Mapping[str, Any]) -> dict[str, Any]:
        free = _FREE if row.get("kind") == "indicators" else (*_FREE, *_OF_SEARCH)
        return {key: value for key, value in row.items() if key not in free and key not in unknown}

    return {**used(plan), **{key: {name: used(plan[key][name]) for name in finished[key]} for key in _GROWING}}
