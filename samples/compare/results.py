"""What a comparison found: a cell for every method, budget and seed, and the file that holds them all."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from llt_nncf.artifacts.json_file import save_json
from llt_nncf.errors import ArtifactError

_SCHEMA = "llt_nncf.comparison/1"
STATUSES = ("done", "infeasible", "missing", "failed")


@dataclass(frozen=True)
class Cell:
    """
    One method at one budget with one seed.

    :param method: Key of ``Comparison.methods``.
    :param budget: Key of ``Comparison.budgets``.
    :param seed: Of the data's order, its variation, and of what the method draws.
    :param status: ``done``; ``infeasible``: the method's rules cannot meet the budget; ``missing``: its package is not
        installed; ``failed``: it ended with an error.
    :param reason: Why it is not done, or what its rules did not allow, in a sentence.
    :param figures: ``top1`` (percent), ``gbitops``, ``weight_mib`` (weights at their bits), ``file_bytes`` (the
        exported ONNX file), ``search_seconds``, ``search_passes``, ``finetune_seconds``, ``finetune_passes`` (of one
        batch forward and backward; seconds of one core), ``start_top1`` (before fine-tuning). Those that do not apply
        are left out.
    :param bits: Layer to weight and activation bits.
    :param losses: Optimizer step of the fine-tuning to its loss.
    """

    method: str
    budget: str
    seed: int
    status: str
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    bits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    losses: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether another run would not try again."""
        return self.status in ("done", "infeasible")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Cell":
        """Takes apart what ``asdict`` and JSON have made of a cell."""
        cell = cls(**content)
        if cell.status not in STATUSES:
            msg = f"The status of a cell is {cell.status!r}, and must be one of {', '.join(STATUSES)}."
            raise ArtifactError(msg)
        bits = {name: (int(pair[0]), int(pair[1])) for name, pair in cell.bits.items()}
        losses = {int(step): float(loss) for step, loss in cell.losses.items()}
        return cls(cell.method, cell.budget, cell.seed, cell.status, cell.reason, dict(cell.figures), bits, losses)


@dataclass(frozen=True)
class Comparison:
    """
    All cells, and what a reader must know to judge them.

    :param about: What was compared, as the config says it.
    :param command: The command line that made it.
    :param config: The comparison's config.
    :param machine: Where it ran: processor, cores, GPU.
    :param versions: Package to version.
    :param float_top1: Top-1 of the float model that all methods start from, percent.
    :param methods: Key to label, in the order of the tables.
    :param budgets: Key to label, in the order of the tables. ``reference`` has no limit.
    :param layers: The layer table, as its JSON file has it.
    :param indicators: Name to indicators, as their JSON file has them.
    :param planned: Method, budget and seed of every cell that the comparison is to have.
    :param cells: Those that there are, in any order.
    """

    about: str
    command: str
    config: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    float_top1: float
    methods: Mapping[str, str]
    budgets: Mapping[str, str]
    layers: Mapping[str, Any]
    indicators: Mapping[str, Any]
    planned: Sequence[tuple[str, str, int]]
    cells: Sequence[Cell]

    def save(self, path: Path | str) -> Path:
        """Saves it as ``results.json``, whole or not at all."""
        return save_json(path, _SCHEMA, asdict(self))
