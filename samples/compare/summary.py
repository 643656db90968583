"""What the cells of a comparison come to: means and spreads over the seeds, and who is best at a budget."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from statistics import fmean
from statistics import stdev

from results import Cell
from results import Comparison

# Means of the same numbers may differ in their last digits, by the order of their addition.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Statistic:
    """
    Several values as one.

    :param mean: In the unit of the values.
    :param spread: Sample standard deviation, divided by one less than the count; ``None`` for one value.
    :param count: Number of values.
    """

    mean: float
    spread: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Statistic | None":
        """Returns the statistic of ``values``, or ``None`` if there are none."""
        values = list(values)
        if not values:
            return None
        return cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values))

    def is_within_spread_of(self, other: "Statistic") -> bool:
        """Whether the means differ by no more than the larger of the two spreads; without spreads, not at all."""
        return abs(self.mean - other.mean) <= max(self.spread or 0.0, other.spread or 0.0) + _ROUNDING


@dataclass(frozen=True)
class Group:
    """
    The cells of one method at one budget.

    :param cells: By seed; at least one.
    :param missing_seeds: Seeds of the comparison that have no cell here.
    """

    cells: tuple[Cell, ...]
    missing_seeds: tuple[int, ...]

    @property
    def done(self) -> tuple[Cell, ...]:
        """The cells that have a result."""
        return tuple(cell for cell in self.cells if cell.status == "done")

    def figure(self, name: str) -> Statistic | None:
        """Returns a figure over the seeds that have it."""
        return Statistic.of(cell.figures[name] for cell in self.done if name in cell.figures)


class Summary:
    """
    Groups of cells, ranked. Methods and budgets without any cell are left out.

    :param comparison: The cells.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        planned = comparison.config.get("seeds", ())
        self.seeds = tuple(sorted({*planned, *(cell.seed for cell in comparison.cells)}))
        self.groups = self._grouped()
        self.methods = [key for key in comparison.methods if any(method == key for method, _ in self.groups)]
        self.budgets = [key for key in comparison.budgets if any(budget == key for _, budget in self.groups)]

    def _grouped(self) -> dict[tuple[str, str], Group]:
        cells: dict[tuple[str, str], list[Cell]] = {}
        for cell in sorted(self.comparison.cells, key=lambda cell: cell.seed):
            cells.setdefault((cell.method, cell.budget), []).append(cell)
        return {
            key: Group(tuple(own), tuple(seed for seed in self.seeds if seed not in {cell.seed for cell in own}))
            for key in product(self.comparison.methods, self.comparison.budgets)
            if (own := cells.get(key))
        }

    @cached_property
    def main_method(self) -> str | None:
        """The first method that chooses by indicators as they are: it is what the comparison is about."""
        rows = self.comparison.config.get("methods", {})
        for key in self.methods:
            row = rows.get(key, {})
            if row.get("kind") == "indicators" and row.get("order", "as_trained") == "as_trained":
                return key
        return None

    @cached_property
    def contested(self) -> list[str]:
        """The budgets that more than one method was tried at; the others are for reference."""
        return [key for key in self.budgets if sum(budget == key for _, budget in self.groups) > 1]

    def ranking(self, budget: str) -> dict[str, Statistic]:
        """Returns the top-1 of the methods that have one at ``budget``, the best first."""
        found = {method: self.top1(method, budget) for method in self.methods}
        return dict(sorted(((key, top1) for key, top1 in found.items() if top1), key=lambda item: -item[1].mean))

    def top1(self, method: str, budget: str) -> Statistic | None:
        """Returns a method's top-1 at a budget, percent."""
        group = self.groups.get((method, budget))
        return group.figure("top1") if group else None

    def best(self, budget: str) -> list[str]:
        """Returns the method with the best mean at a contested budget; several, if it is the same."""
        ranked = self.ranking(budget) if budget in self.contested else {}
        return [key for key, top1 in ranked.items() if top1.mean >= next(iter(ranked.values())).mean - _ROUNDING]

    def close(self, budget: str) -> list[str]:
        """Returns the methods that are not the best at a contested budget, but within the spread of it."""
        ranked, best = self.ranking(budget), self.best(budget)
        return [
            key
            for key, top1 in ranked.items()
            if key not in best and any(top1.is_within_spread_of(ranked[other]) for other in best)
        ]

    def lead(self, method: str, other: str) -> Statistic | None:
        """
        Returns by how many points of top-1 a method is better than another.

        Of every seed the mean over the contested budgets that both have a result at, then mean and spread over seeds.
        """
        gaps: dict[int, list[float]] = {}
        for budget in self.contested:
            own, others = self._top1_by_seed(method, budget), self._top1_by_seed(other, budget)
            for seed in own.keys() & others.keys():
                gaps.setdefault(seed, []).append(own[seed] - others[seed])
        return Statistic.of(fmean(values) for values in gaps.values())

    def first_done(self, method: str, budget: str, content: str) -> Cell | None:
        """
        Returns the result of the first seed that has ``content``, or ``None``.

        :param content: ``bits`` or ``losses``.
        """
        group = self.groups.get((method, budget))
        return next((cell for cell in group.done if getattr(cell, content)), None) if group else None

    def _top1_by_seed(self, method: str, budget: str) -> dict[int, float]:
        group = self.groups.get((method, budget))
        return {cell.seed: cell.figures["top1"] for cell in group.done if "top1" in cell.figures} if group else {}
