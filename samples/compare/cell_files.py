"""The files of a comparison that is under way: what is finished is not done again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path

from results import Cell

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import save_json

_CELL_SCHEMA = "llt_nncf.comparison_cell/1"
_TRAINING_SCHEMA = "llt_nncf.comparison_training/1"

Figures = Mapping[str, float]
Losses = Mapping[int, float]


@dataclass(frozen=True)
class CellFiles:
    """
    ``cells/BUDGET/METHOD-sSEED.json`` for each choice, and a training in ``trainings/`` for each policy and seed.

    Methods that choose the same bits share their training.

    :param folder: The comparison's output folder.
    """

    folder: Path

    def save_choice(self, cell: Cell) -> None:
        """Saves a cell that has its bits or the reason why not, and no accuracy unless the method trains by itself."""
        save_json(self._cell_path(cell.method, cell.budget, cell.seed), _CELL_SCHEMA, asdict(cell))

    def load_choice(self, method: str, budget: str, seed: int) -> Cell | None:
        """Returns a saved cell, or ``None``."""
        path = self._cell_path(method, budget, seed)
        return Cell.from_dict(load_json(path, _CELL_SCHEMA)) if path.exists() else None

    def final_choices(self) -> list[Cell]:
        """Returns the saved cells that no further run chooses again: those that are done or infeasible."""
        cells = [Cell.from_dict(load_json(path, _CELL_SCHEMA)) for path in self.folder.glob("cells/*/*.json")]
        return [cell for cell in cells if cell.is_final]

    def policy_path(self, cell: Cell) -> Path:
        """Returns the file of the cell's policy, which is written if it is not there."""
        path = self.folder / "policies" / f"{_digest(cell)}.json"
        if not path.exists():
            BitPolicy(cell.bits).save(path)
        return path

    def save_training(self, cell: Cell, figures: Figures, losses: Losses) -> None:
        """Saves what the training of the cell's bits has come to."""
        save_json(self.training_path(cell), _TRAINING_SCHEMA, {"figures": dict(figures), "losses": dict(losses)})

    def training_path(self, cell: Cell) -> Path:
        """Returns the file of the training of the cell's bits, which may not be there yet."""
        return self.folder / "trainings" / f"{_digest(cell)}-s{cell.seed}.json"

    def load(self, method: str, budget: str, seed: int) -> Cell | None:
        """Returns a finished cell, or ``None``."""
        cell = self.load_choice(method, budget, seed)
        if cell is None or cell.status != "done" or "top1" in cell.figures:
            return cell
        if not self.training_path(cell).exists():
            return None
        training = load_json(self.training_path(cell), _TRAINING_SCHEMA)
        content = asdict(cell) | {"figures": {**cell.figures, **training["figures"]}, "losses": training["losses"]}
        return Cell.from_dict(content)

    def _cell_path(self, method: str, budget: str, seed: int) -> Path:
        return self.folder / "cells" / budget / f"{method}-s{seed}.json"


def _digest(cell: Cell) -> str:
    content = json.dumps(sorted((name, *pair) for name, pair in cell.bits.items()))
    return hashlib.sha256(content.encode()).hexdigest()[:12]
