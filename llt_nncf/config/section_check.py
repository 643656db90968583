"""Checks a section against its JSON schema, and words every fault so that it can be mended."""

import difflib
import re
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema

from llt_nncf.errors import ConfigError


def check_section(section: Any, properties: dict[str, Any], *, where: str) -> None:
    """
    Refuses unknown keys and wrong values, all of them at once.

    :param section: The section as loaded from JSON.
    :param properties: JSON schema of each key that is allowed.
    :param where: Key path of the section, for example ``compression``; empty for the config itself.
    :raises ConfigError: With one line per fault: key path, what was given, what is allowed.
    """
    raise_faults(section_faults(section, properties, where=where))


def section_faults(section: Any, properties: dict[str, Any], *, where: str) -> list[str]:
    """Returns what ``check_section`` would refuse, a line each."""
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    errors = sorted(_Validator(schema).iter_errors(section), key=lambda error: list(map(str, error.path)))
    return [line for error in errors for line in _word(error, where)]


def raise_faults(lines: list[str], *, where: str = "the llt_quantization config") -> None:
    """
    Raises one error for all faults, if there are any.

    :param lines: The faults.
    :param where: What they are in.
    :raises ConfigError: With a line per fault.
    """
    if lines:
        msg = f"{len(lines)} fault{'s' * (len(lines) > 1)} in {where}:\n  " + "\n  ".join(lines)
        raise ConfigError(msg)


def _check_refused(
    validator: Any, refused: list[dict[str, Any]], instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    for case in refused:
        # Not by equality alone: false == 0, and a wrong type is worded as such.
        if "value" not in case or (type(case["value"]) is type(instance) and case["value"] == instance):
            yield jsonschema.ValidationError(f"is refused: {case['remedy']}")


def _check_scopes(validator: Any, are_scopes: bool, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    for scope in instance if isinstance(instance, list) else [instance]:
        if isinstance(scope, str) and "{re}" in scope:
            try:
                re.compile(scope.replace("{re}", ""))
            except re.error as error:
                yield jsonschema.ValidationError(f"{scope!r} is no regular expression ({error})")


def _is_number(checker: Any, value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_integer(checker: Any, value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


# JSON Schema takes 4.0 for an integer; Python reads NaN, Infinity and numbers of any length from JSON, and the seeds of
# generators have 64 bits.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft7Validator,
    {"refused": _check_refused, "scopes": _check_scopes},
    type_checker=jsonschema.Draft7Validator.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number}),
)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def _word(error: jsonschema.ValidationError, where: str) -> Iterator[str]:
    # Of alternatives the closest one says what is wrong.
    if error.context:
        error = jsonschema.exceptions.best_match([error]) or error
    path = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    path = path.removeprefix(".")  # of the config itself
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        for key in sorted(set(error.instance) - set(known)):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}."
            yield f"{path}.{key}: unknown key; {hint}"
    elif error.validator == "enum":
        yield f"{path}={_shown(error.instance)}: must be one of {', '.join(map(repr, error.validator_value))}."
    elif error.validator == "refused":
        given = "" if isinstance(error.instance, dict) else f"={_shown(error.instance)}"
        yield f"{path}{given} {error.message}"
    elif error.validator == "required":
        yield f"{path}: {error.message}."
    elif error.validator == "anyOf" and all("required" in choice for choice in error.validator_value):
        yield f"{path}: give {' or '.join(key for choice in error.validator_value for key in choice['required'])}."
    elif error.validator == "minProperties":
        yield f"{path}: is empty; give at least one of {', '.join(sorted(error.schema['properties']))}."
    elif error.validator in _LIMITS:
        allowed = error.validator_value
        allowed = " or ".join(allowed) if isinstance(allowed, list) else allowed
        is_number = error.validator == "type" and type(error.instance) in (int, float)
        long = ", finite and of 64 bits at most" if is_number and allowed in ("integer", "number") else ""
        if allowed == "object" and (keys := list(error.schema.get("properties", {}))):
            long = f", with {' and '.join(keys) if len(keys) < 4 else 'one or more of ' + ', '.join(keys)}"
        yield f"{path}={_shown(error.instance)}: must be {_LIMITS[error.validator]} {allowed}{long}."
    elif error.validator == "oneOf" and all("enum" in choice or "type" in choice for choice in error.validator_value):
        choices = [
            " or ".join(map(repr, choice["enum"])) if "enum" in choice else f"a {choice['type']}"
            for choice in error.validator_value
        ]
        yield f"{path}={_shown(error.instance)}: must be {' or '.join(choices)}."
    elif error.validator == "uniqueItems":
        yield f"{path}={_shown(error.instance)}: names a value twice."
    else:
        yield f"{path}={_shown(error.instance)}: {error.message}."


_MOST_CHARACTERS = 100
_LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "above",
    "exclusiveMaximum": "below",
    "type": "of type",
    "minItems": "a list of a length of at least",
}
