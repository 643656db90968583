"""The answer of a comparison in sentences, all of them computed from the cells."""

from collections import Counter

from results import STATUSES
from summary import Statistic
from summary import Summary
from wording import listed
from wording import number
from wording import percent
from wording import signed
from wording import with_spread

from llt_nncf.errors import some_of

_MOST_GROUPS = 8


def what_was_compared(summary: Summary) -> list[str]:
    """Returns how much there is of the comparison, and what is missing of it."""
    cells = summary.comparison.cells
    counts = Counter(cell.status for cell in cells)
    absent = sum(len(group.missing_seeds) for group in summary.groups.values())
    states = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
    states += [f"{absent} not there yet"] if absent else []
    sentences = [
        f"{_counted(len(summary.methods), 'method')} at {_counted(len(summary.budgets), 'budget')} with "
        f"{_counted(len(summary.seeds), 'seed')} ({', '.join(map(str, summary.seeds))}), all from the same float model "
        f"with a top-1 of {percent(number(summary.comparison.float_top1))}. Cells: {listed(states) or 'none'}."
    ]
    if len(summary.seeds) == 1:
        sentences.append("There is one seed: no spread is known, and a small difference says nothing.")
    gaps = [
        f"{_name(summary, method)} at {_budget(summary, budget)} (seed {', '.join(map(str, group.missing_seeds))})"
        for (method, budget), group in summary.groups.items()
        if group.missing_seeds
    ]
    if gaps:
        sentences.append(f"Seeds are missing: {some_of(gaps, _MOST_GROUPS, '; ')}.")
    return sentences


def answers(summary: Summary) -> dict[str, str]:
    """Returns the label of each contested budget, with who is best there and how the main method does."""
    return {_budget(summary, budget): _answer(summary, budget) for budget in summary.contested}


def verdict(summary: Summary) -> list[str]:
    """Returns how the main method does over all contested budgets; nothing if there is no such method."""
    main = summary.main_method
    if main is None or not summary.contested:
        return []
    best = [budget for budget in summary.contested if main in summary.best(budget)]
    close = [budget for budget in summary.contested if main in summary.close(budget)]
    tried = [budget for budget in summary.contested if (main, budget) in summary.groups]
    without = [budget for budget in tried if summary.top1(main, budget) is None]
    lost = len(tried) - len(best) - len(close) - len(without)
    text = (
        f"Of {_counted(len(tried), 'budget')}, {_name(summary, main)} is the best at {len(best)}, within the spread of "
        f"the best at {len(close)}, and behind at {lost}"
    )
    sentences = [f"{text}; it has no result at {len(without)}." if without else f"{text}."]
    leads = {key: summary.lead(main, key) for key in summary.methods if key != main}
    known = sorted(((key, lead) for key, lead in leads.items() if lead), key=lambda item: -item[1].mean)
    parts = []
    for place, words in ((1, "ahead of"), (0, "within the spread of"), (-1, "behind")):
        group = [_lead(summary, key, lead) for key, lead in known if _place(lead) == place]
        parts += [f"{words} {listed(group)}"] if group else []
    if parts:
        both = "On average over the budgets and seeds that both have a result at"
        sentences.append(f"{both}, it is, in points, {'; '.join(parts)}.")
    return sentences


def _answer(summary: Summary, budget: str) -> str:
    ranked, best, close = summary.ranking(budget), summary.best(budget), summary.close(budget)
    if not ranked:
        return "no method has a result."
    first = ranked[best[0]]
    names = listed([_name(summary, key) for key in best])
    text = f"{names} {'are' if len(best) > 1 else 'is'} best with {percent(with_spread(first))}"
    if len(ranked) == 1:
        text += ", the only result"
    elif close:
        rest = listed([f"{_name(summary, key)} ({signed(ranked[key].mean - first.mean)})" for key in close])
        text += f"; within the spread of it: {rest}"
    elif len(best) < len(ranked):
        following = list(ranked)[len(best)]
        gap = number(first.mean - ranked[following].mean)
        text += f"; next is {_name(summary, following)}, {gap} points lower{_beyond(first, ranked[following])}"
        if following == summary.main_method:
            return f"{text}."
    return f"{text}.{_of_main(summary, budget)}"


def _of_main(summary: Summary, budget: str) -> str:
    """A sentence about the main method, where it is neither the best nor close to it."""
    main, ranked = summary.main_method, summary.ranking(budget)
    if main is None or (main, budget) not in summary.groups or main in (*summary.best(budget), *summary.close(budget)):
        return ""
    if main not in ranked:
        states = dict.fromkeys(cell.status for cell in summary.groups[main, budget].cells)
        return f" {_name(summary, main)} has no result here: {listed(list(states))}."
    first = next(iter(ranked.values()))
    gap = number(first.mean - ranked[main].mean)
    return f" {_name(summary, main)} is {gap} points behind the best{_beyond(first, ranked[main])}."


def _beyond(one: Statistic, other: Statistic) -> str:
    """What is added to a gap that is larger than the spread: nothing, where no spread is known."""
    return ", more than the spread" if one.spread is not None or other.spread is not None else ""


def _place(lead: Statistic) -> int:
    """1 for ahead by more than the spread, -1 for behind by more than it, 0 between."""
    return 0 if abs(lead.mean) <= (lead.spread or 0.0) else 1 if lead.mean > 0 else -1


def _lead(summary: Summary, method: str, lead: Statistic) -> str:
    spread = f" ± {number(lead.spread)}" if lead.spread is not None else ""
    return f"{_name(summary, method)} ({signed(lead.mean)}{spread})"


def _name(summary: Summary, method: str) -> str:
    return summary.comparison.methods[method]


def _budget(summary: Summary, budget: str) -> str:
    return summary.comparison.budgets[budget]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
