"""What validation found, as one JSON file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import parsing
from llt_nncf.artifacts.json_file import save_json
from llt_nncf.artifacts.json_file import typed

_SCHEMA = "llt_nncf.validation_report/1"


@dataclass(frozen=True)
class ValidationReport:
    """
    The outcome of a validation.

    :param passed: Whether every check held.
    :param faults: What did not hold, a sentence each.
    :param sections: The figures, by section; JSON-able.
    """

    passed: bool
    faults: tuple[str, ...]
    sections: Mapping[str, Any]

    def save(self, path: Path | str) -> Path:
        """Saves the report as JSON, atomically."""
        content = {**self.sections, "passed": self.passed, "faults": list(self.faults)}
        return save_json(path, _SCHEMA, content)

    @classmethod
    def load(cls, path: Path | str) -> "ValidationReport":
        """
        Loads a saved report.

        :raises ArtifactError: If the file is missing or malformed.
        """
        content = load_json(path, _SCHEMA)
        with parsing(path, "a validation report"):
            passed = typed(content.pop("passed"), bool)
            faults = tuple(typed(fault, str) for fault in typed(content.pop("faults"), list))
        return cls(passed, faults, content)
