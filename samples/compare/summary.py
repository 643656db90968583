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


@dataclass(frozen=True)
class Lead:
    """
    By how much a method is better than another, on average over several budgets.

    :param points: Of top-1: of every seed the mean over the budgets, and over the seeds mean and spread.
    :param budgets: All at which both have a result with each of these seeds.
    """

    points: Statistic
    budgets: tuple[str, ...]

    @property
    def place(self) -> int:
        """1 if it is ahead by more than the spread, -1 if it is behind by more than that, 0 between."""
        mean = self.points.mean
        return 0 if abs(mean) <= (self.points.spread or 0.0) + _ROUNDING else 1 if mean > 0 else -1


@dataclass(frozen=True)
class Group:
    """
    The cells of one method at one budget.

    :param cells: By seed; at least one.
    :param missing_seeds: Those that are planned here and have no cell.
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
        self.seeds = tuple(sorted({seed for _, _, seed in comparison.planned} | {x.seed for x in comparison.cells}))
        self.planned = self._planned_seeds()
        self.groups = self._grouped()
        self.methods = [key for key in comparison.methods if any(method == key for method, _ in self.groups)]
        self.budgets = [key for key in comparison.budgets if any(budget == key for _, budget in self.groups)]

    def _planned_seeds(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """Method and budget of what is planned, in the order of the tables, to its seeds."""
        seeds: dict[tuple[str, str], list[int]] = {}
        for method, budget, seed in self.comparison.planned:
            seeds.setdefault((method, budget), []).append(seed)
        pairs = product(self.comparison.methods, self.comparison.budgets)
        return {key: tuple(sorted(seeds[key])) for key in pairs if key in seeds}

    def _grouped(self) -> dict[tuple[str, str], Group]:
        cells: dict[tuple[str, str], dict[int, Cell]] = {}
        for cell in sorted(self.comparison.cells, key=lambda cell: cell.seed):
            cells.setdefault((cell.method, cell.budget), {})[cell.seed] = cell
        return {
            key: Group(tuple(own.values()), tuple(seed for seed in self.planned.get(key, ()) if seed not in own))
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
        """
        The budgets that more than one method was tried at, unless all of them found the same bits there.

        The others are for reference, or leave nothing to choose: W2A2 where 2 is the lowest candidate.
        """
        return [key for key in self.budgets if self._is_contested(key)]

    def _is_contested(self, budget: str) -> bool:
        groups = [group for (_, own), group in self.groups.items() if own == budget]
        found = [cell.bits for group in groups for cell in group.done]
        return len(groups) > 1 and (len(found) < 2 or any(bits != found[0] or not bits for bits in found))

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
        """Returns the methods that are not the best at a contested budget, but within the spread of one that is."""
        best = self.best(budget)
        others = [key for key in self.ranking(budget) if key not in best]
        return [key for key in others if any(self._is_close(budget, key, first) for first in best)]

    def _is_close(self, budget: str, method: str, other: str) -> bool:
        """Whether the methods differ by no more than the larger of their spreads, over the seeds that both have."""
        gap = self.gap(budget, method, other)
        spreads = [top1.spread or 0.0 for top1 in (self.top1(method, budget), self.top1(other, budget)) if top1]
        return gap is not None and abs(gap.mean) <= max(spreads) + _ROUNDING

    def gap(self, budget: str, method: str, other: str) -> Statistic | None:
        """Returns by how many points a method is better than another at a budget, over the seeds that both have."""
        return Statistic.of(self._gaps(budget, method, other).values())

    def lead(self, method: str, other: str) -> Lead | None:
        """
        Returns by how many points a method is better than another on average over the contested budgets.

        Only budgets at which both have a result with every seed that they share anywhere count: else the mean of each
        seed would be one over other budgets. ``None`` if there is no such budget.
        """
        gaps = {budget: own for budget in self.contested if (own := self._gaps(budget, method, other))}
        seeds = sorted({seed for own in gaps.values() for seed in own})
        budgets = tuple(budget for budget, own in gaps.items() if len(own) == len(seeds))
        points = Statistic.of(fmean(gaps[budget][seed] for budget in budgets) for seed in seeds) if budgets else None
        return Lead(points, budgets) if points else None

    def first_done(self, method: str, budget: str, content: str) -> Cell | None:
        """
        Returns the result of the first seed that has ``content``, or ``None``.

        :param content: ``bits`` or ``losses``.
        """
        group = self.groups.get((method, budget))
        return next((cell for cell in group.done if getattr(cell, content)), None) if group else None

    def _gaps(self, budget: str, method: str, other: str) -> dict[int, float]:
        """Seed to the points by which ``method`` is better."""
        own, others = self._top1_by_seed(method, budget), self._top1_by_seed(other, budget)
        return {seed: own[seed] - others[seed] for seed in sorted(own.keys() & others.keys())}

    def _top1_by_seed(self, method: str, budget: str) -> dict[int, float]:
        group = self.groups.get((method, budget))
        return {cell.seed: cell.figures["top1"] for cell in group.done if "top1" in cell.figures} if group else {}
