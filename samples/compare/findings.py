"""The answer of a comparison in sentences, all of them computed from the cells."""

from collections import Counter

from results import STATUSES
from summary import Lead
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
    absent = len({*summary.comparison.planned} - {(cell.method, cell.budget, cell.seed) for cell in cells})
    states = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
    states += [f"{absent} not run yet"] if absent else []
    sentences = [
        f"{_counted(len(summary.methods), 'method')} at {_counted(len(summary.budgets), 'budget')} with "
        f"{_counted(len(summary.seeds), 'seed')} ({', '.join(map(str, summary.seeds))}), all from the same float model "
        f"with a top-1 of {percent(number(summary.comparison.float_top1))}. Cells: {listed(states) or 'none'}."
    ]
    if len(summary.seeds) == 1:
        sentences.append("There is one seed: no spread is known, and a small difference says nothing.")
    missing = _not_run(summary)
    if missing:
        sentences.append(f"Not run yet: {some_of(missing, _MOST_GROUPS, '; ')}.")
    return sentences


def _not_run(summary: Summary) -> list[str]:
    """What is planned and has no cell: whole methods first, then methods at a budget, with the seeds if not all."""
    unseen = [method for method in dict.fromkeys(key for key, _ in summary.planned) if method not in summary.methods]
    missing = [f"{_name(summary, method)} (everything)" for method in unseen]
    for (method, budget), planned in summary.planned.items():
        group = summary.groups.get((method, budget))
        seeds = group.missing_seeds if group else planned
        if seeds and method not in unseen:
            which = "" if seeds == planned else f" (seed {', '.join(map(str, seeds))})"
            missing.append(f"{_name(summary, method)} at {_budget(summary, budget)}{which}")
    return missing


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
    shared = sum(len(summary.best(budget)) > 1 for budget in best)
    text = (
        f"Of {_counted(len(tried), 'budget')}, {_name(summary, main)} is the best at {len(best)}"
        f"{f' (with others at {shared} of them)' if shared else ''}, within the spread of the best at {len(close)}, "
        f"and behind at {lost}"
    )
    sentences = [f"{text}; it has no result at {len(without)}." if without else f"{text}."]
    leads = {key: lead for key in summary.methods if key != main and (lead := summary.lead(main, key))}
    if several := {key: lead for key, lead in leads.items() if lead.points.spread is not None}:
        both = "On average over the budgets at which both have results of the same seeds"
        sentences.append(f"{both}, it is, in points, {_places(summary, several)}.")
    if one := {key: lead for key, lead in leads.items() if lead.points.spread is None}:
        sentences.append(f"With one seed, which may be chance, it is {_places(summary, one)}.")
    return sentences


def _places(summary: Summary, leads: dict[str, Lead]) -> str:
    """Whom the main method is ahead of, within the spread of and behind."""
    parts = []
    ranked = sorted(leads.items(), key=lambda item: -item[1].points.mean)
    for place, words in ((1, "ahead of"), (0, "within the spread of"), (-1, "behind")):
        names = [_lead(summary, key, lead) for key, lead in ranked if lead.place == place]
        parts += [f"{words} {listed(names)}"] if names else []
    return "; ".join(parts)


def _answer(summary: Summary, budget: str) -> str:
    ranked, best, close = summary.ranking(budget), summary.best(budget), summary.close(budget)
    if not ranked:
        return "no method has a result."
    first = best[0]
    names = listed([_name(summary, key) for key in best])
    text = f"{names} {'are' if len(best) > 1 else 'is'} best with {percent(with_spread(ranked[first]))}"
    if ranked[first].count < len(summary.seeds):
        text += f" ({_counted(ranked[first].count, 'seed')})"
    if len(ranked) == 1:
        text += ", the only result"
    elif close:
        rest = listed([f"{_name(summary, key)} ({_gap(summary, budget, key, first)})" for key in close])
        text += f"; within the spread of it: {rest}"
    elif len(best) < len(ranked):
        following = list(ranked)[len(best)]
        text += f"; next is {_name(summary, following)} ({_gap(summary, budget, following, first)})"
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
    return f" {_name(summary, main)} is behind it ({_gap(summary, budget, main, next(iter(ranked)))})."


def _gap(summary: Summary, budget: str, method: str, best: str) -> str:
    """Points to the best, over the seeds that both have, and what the reader must know of them."""
    gap = summary.gap(budget, method, best)
    if gap is None:
        return "no seed in common"
    remarks = [f"{_counted(gap.count, 'seed')} in common"] if gap.count < len(summary.seeds) else []
    if gap.count > 1 and method not in summary.close(budget):
        remarks.append("more than the spread")
    return ", ".join([signed(gap.mean), *remarks])


def _lead(summary: Summary, method: str, lead: Lead) -> str:
    spread = "" if lead.points.spread is None else f" ± {number(lead.points.spread)}"
    return f"{_name(summary, method)} ({signed(lead.points.mean)}{spread}, {_counted(len(lead.budgets), 'budget')})"


def _name(summary: Summary, method: str) -> str:
    return summary.comparison.methods[method]


def _budget(summary: Summary, budget: str) -> str:
    return summary.comparison.budgets[budget]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
