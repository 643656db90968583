"""The sentences say what the cells say, also where that is a defeat."""

import doctest
from dataclasses import replace

import pytest


@pytest.fixture
def findings(sample):
    return sample("findings")


@pytest.fixture
def summarised(sample):
    return sample("summary").Summary


def spaced(texts):
    return [text.replace("\N{NO-BREAK SPACE}", " ") for text in texts]


def test_what_is_not_done_is_counted_and_missing_seeds_are_named(findings, summarised, comparison):
    first, second = spaced(findings.what_was_compared(summarised(comparison)))
    assert first == (
        "4 methods at 3 budgets with 3 seeds (0, 1, 2), all from the same float model with a top-1 of 92.00 %. "
        "Cells: 28 done, 3 infeasible, 3 missing, 1 failed and 1 not run yet."
    )
    assert second == "Not run yet: LLT, shuffled at 3 bits per weight (seed 2)."


def test_planned_methods_and_budgets_without_any_cell_are_named(findings, summarised, comparison):
    cells = [
        cell for cell in comparison.cells if cell.method != "rival" and (cell.method, cell.budget) != ("llt", "w2a2")
    ]
    first, second = spaced(findings.what_was_compared(summarised(replace(comparison, cells=cells))))
    assert first.startswith("3 methods at 3 budgets with 3 seeds")
    assert first.endswith("1 failed and 13 not run yet.")
    assert second == (
        'Not run yet: Rival <b> & "Co" | x (everything); LLT, learned at BitOPs of W2A2; '
        "LLT, shuffled at 3 bits per weight (seed 2)."
    )


def test_who_is_best_at_each_budget(findings, summarised, comparison):
    assert spaced(findings.answers(summarised(comparison)).values()) == [
        "Uniform is best with 88.10 ± 0.17 %; next is LLT, learned (−0.90, more than the spread).",
        "LLT, learned is best with 91.20 ± 0.20 %; within the spread of it: Uniform (−0.10).",
        'LLT, learned and Rival <b> & "Co" | x are best with 91.70 ± 0.20 %; next is Uniform (−0.50, more than the '
        "spread).",
    ]


def test_what_has_other_seeds_is_compared_over_those_that_both_have(findings, summarised, comparison):
    cells = [cell for cell in comparison.cells if (cell.method, cell.seed) not in (("llt", 0), ("uniform", 2))]
    cells = [cell for cell in cells if cell.budget != "w3a3" or cell.method in ("llt", "uniform")]
    summary = summarised(replace(comparison, cells=cells))
    # LLT: 91.2 and 91.4; Uniform: 91.0 and 91.0. Both have seed 1.
    assert spaced(findings.answers(summary).values())[1] == (
        "LLT, learned is best with 91.30 ± 0.14 % (2 seeds); next is Uniform (−0.20, 1 seed in common)."
    )
    assert findings.verdict(summary)[-1] == (
        "With one seed, which may be chance, it is ahead of LLT, shuffled (+0.90, 2 budgets); behind Uniform (−0.03, "
        "3 budgets)."
    )
    apart = [cell for cell in cells if (cell.method, cell.seed) != ("uniform", 1)]
    answer = findings.answers(summarised(replace(comparison, cells=apart)))["BitOPs of W3A3"]
    assert answer.endswith("next is Uniform (no seed in common).")


def test_the_main_method_against_all_others(findings, summarised, comparison):
    assert findings.verdict(summarised(comparison)) == [
        "Of 3 budgets, LLT, learned is the best at 2 (with others at 1 of them), within the spread of the best at 0, "
        "and behind at 1.",
        "On average over the budgets at which both have results of the same seeds, it is, in points, ahead of LLT, "
        'shuffled (+1.00 ± 0.00, 1 budget); within the spread of Rival <b> & "Co" | x (0.00 ± 0.10, 1 budget) and '
        "Uniform (−0.10 ± 0.12, 3 budgets).",
    ]


def test_a_defeat_is_said(findings, summarised, comparison):
    worse = [
        replace(cell, figures={**cell.figures, "top1": cell.figures["top1"] - 5}) if cell.method == "llt" else cell
        for cell in comparison.cells
    ]
    verdict = findings.verdict(summarised(replace(comparison, cells=worse)))
    assert "the best at 0, within the spread of the best at 0, and behind at 3." in verdict[0]
    assert "ahead of" not in verdict[1]
    assert "behind LLT, shuffled (−4.00 ± 0.00, 1 budget)" in verdict[1]
    # At W2A2 it is now the last of three.
    answer = next(iter(findings.answers(summarised(replace(comparison, cells=worse))).values()))
    assert answer.endswith(" LLT, learned is behind it (−5.90, more than the spread).")


def test_one_seed_is_said_to_have_no_spread(findings, summarised, comparison):
    cells = [cell for cell in comparison.cells if cell.seed == 0]
    planned = [key for key in comparison.planned if key[2] == 0]
    summary = summarised(replace(comparison, cells=cells, planned=planned))
    assert findings.what_was_compared(summary)[1] == (
        "There is one seed: no spread is known, and a small difference says nothing."
    )
    text = " ".join(findings.answers(summary).values())
    assert "±" not in text
    assert "spread" not in text


def test_a_main_method_without_a_result_is_said(findings, summarised, comparison):
    cells = [
        replace(cell, status="infeasible", figures={}) if (cell.method, cell.budget) == ("llt", "w2a2") else cell
        for cell in comparison.cells
    ]
    summary = summarised(replace(comparison, cells=cells))
    assert findings.answers(summary)["BitOPs of W2A2"].endswith(" LLT, learned has no result here: infeasible.")
    assert findings.verdict(summary)[0].endswith("and behind at 0; it has no result at 1.")


def test_the_examples_of_numbers_and_lists_give_what_they_show(sample):
    result = doctest.testmod(sample("wording"))
    assert result.attempted == 3
    assert result.failed == 0
