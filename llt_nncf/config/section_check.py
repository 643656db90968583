"""Checks a section against its JSON schema, and words every fault so that it can be mended."""

import difflib
from collections.abc import Iterator
from typing import Any

import jsonschema

from llt_nncf.errors import ConfigError


def check_section(section: Any, properties: dict[str, Any], *, where: str) -> None:
    """
    Refuses unknown keys and wrong values, all of them at once.

    :param section: The section as loaded from JSON.
    :param properties: JSON schema of each key that is allowed.
    :param where: Key path of the section, for example ``compression``.
    :raises ConfigError: With one line per fault: key path, what was given, what is allowed.
    """
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    errors = sorted(
        jsonschema.Draft7Validator(schema).iter_errors(section), key=lambda error: list(map(str, error.path))
    )
    lines = [line for error in errors for line in _word(error, where)]
    if lines:
        msg = f"{len(lines)} fault{'s' * (len(lines) > 1)} in the llt_quantization config:\n  " + "\n  ".join(lines)
        raise ConfigError(msg)


def _word(error: jsonschema.ValidationError, where: str) -> Iterator[str]:
    # NNCF's own keys contain alternatives (a dict or a list of dicts); the closest one says what is wrong.
    if error.context:
        error = jsonschema.exceptions.best_match([error]) or error
    path = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        for key in sorted(set(error.instance) - set(known)):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}."
            yield f"{path}.{key}: unknown key; {hint}"
    elif error.validator == "enum":
        yield f"{path}={error.instance!r}: must be one of {', '.join(map(repr, error.validator_value))}."
    elif error.validator == "required":
        yield f"{path}: {error.message}."
    elif error.validator == "minProperties":
        yield f"{path}: is empty; give at least one of {', '.join(sorted(error.schema['properties']))}."
    elif error.validator in _LIMITS:
        yield f"{path}={error.instance!r}: must be {_LIMITS[error.validator]} {error.validator_value}."
    elif error.validator == "uniqueItems":
        yield f"{path}={error.instance!r}: names a value twice."
    else:
        yield f"{path}={error.instance!r}: {error.message}."


_LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "above",
    "exclusiveMaximum": "below",
    "type": "of type",
    "minItems": "a list of a length of at least",
}
