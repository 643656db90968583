"""The tables, and the files that they are written to."""

import csv
from dataclasses import replace

import pytest

from llt_nncf.cli.main import main as llt_nncf


@pytest.fixture
def summary(sample, comparison):
    return sample("summary").Summary(comparison)


def row(table, *heading):
    return next(row for row in table.rows if (row.group, row.heading)[-len(heading) :] == heading)


def test_accuracy_is_mean_spread_and_drop(sample, summary):
    table = sample("tables").accuracy_table(summary)
    assert table.headings == ("budget", *summary.comparison.methods.values())
    uniform, llt, shuffled, _ = row(table, "BitOPs of W3A3").cells
    assert llt.lines == ("91.20 ±\N{NO-BREAK SPACE}0.20", "drop 0.80")
    assert [cell.mark for cell in (uniform, llt, shuffled)] == ["close", "best", ""]


def test_what_has_no_result_shows_its_status_and_its_reason(sample, summary):
    table = sample("tables").accuracy_table(summary)
    cells = [row(table, name).cells[3] for name in ("BitOPs of W2A2", "BitOPs of W3A3")]
    assert [cell.lines for cell in cells] == [("infeasible",), ("missing",)]
    reasons = [table.footnotes[cell.note - 1] for cell in cells]
    assert reasons == ["infeasible: It knows 2, 4 and 8 bits only.", "missing: Install <made-up>."]


def test_what_all_results_of_a_method_say_stands_at_its_heading_and_the_rest_at_the_cell(sample, comparison):
    def with_reason(cell):
        return (
            replace(cell, reason=f"It has a rule. At {cell.budget}. {cell.seed // 2} of 2.")
            if cell.method == "llt"
            else cell
        )

    told = replace(comparison, cells=[with_reason(cell) for cell in comparison.cells])
    table = sample("tables").accuracy_table(sample("summary").Summary(told))
    notes = {heading: table.footnotes[note - 1] for heading, note in table.heading_notes.items()}
    assert notes == {"LLT, learned": "It has a rule.", told.methods["rival"]: "It leaves activations at 8 bits."}
    own = row(table, "BitOPs of W3A3").cells[1]
    assert table.footnotes[own.note - 1] == "At w3a3; seed 0, 1: 0 of 2; seed 2: 1 of 2"


def test_a_mean_over_fewer_seeds_has_a_footnote(sample, summary):
    table = sample("tables").accuracy_table(summary)
    failed, absent = (row(table, name).cells[2] for name in ("BitOPs of W2A2", "3 bits per weight"))
    assert failed.lines[0] == "86.20 ±\N{NO-BREAK SPACE}0.28"
    assert table.footnotes[failed.note - 1] == "seed 2: failed: ValueError: made up"
    assert table.footnotes[absent.note - 1] == "seed 2: not run yet"


def test_what_is_planned_but_not_run_is_told_from_what_is_not_compared(sample, comparison):
    cells = [cell for cell in comparison.cells if (cell.method, cell.budget) != ("rival", "w3a3")]
    summarised = sample("summary").Summary
    summary = summarised(replace(comparison, cells=cells))
    assert row(sample("tables").accuracy_table(summary), "BitOPs of W3A3").cells[3].lines == ("not run yet",)
    planned = [key for key in comparison.planned if key[:2] != ("rival", "w3a3")]
    summary = summarised(replace(comparison, cells=cells, planned=planned))
    assert row(sample("tables").accuracy_table(summary), "BitOPs of W3A3").cells[3].lines == ("–",)


def test_costs_are_means_over_all_that_is_done(sample, summary):
    table = sample("tables").cost_table(summary)
    texts = {row.heading: [cell.lines[0] for cell in row.cells] for row in table.rows}
    assert texts["LLT, learned"] == ["200", "50.0", "200", "300", "9"]
    # Of LLT, shuffled seeds 0 and 1 are done at three budgets, seed 2 at one: (3 * 100 + 3 * 200 + 300) / 7.
    assert texts["LLT, shuffled"] == ["171", "50.0", "200", "300", "7"]
    assert texts["Uniform"][:2] == ["0", "0"]


def test_sizes_are_means_over_the_seeds_of_a_budget(sample, summary):
    table = sample("tables").size_table(summary)
    assert [cell.lines[0] for cell in row(table, "BitOPs of W3A3", "LLT, learned").cells] == ["0.400", "0.0625", "4.0"]
    assert [cell.lines[0] for cell in row(table, "3 bits per weight", 'Rival <b> & "Co" | x').cells][2] == "–"
    assert not [row for row in table.rows if row.group == "BitOPs of W2A2" and row.heading.startswith("Rival")]


def test_bits_of_all_methods_stand_beside_each_other(sample, summary):
    table = sample("tables").bit_table(summary, "weights-3")
    assert len(table.headings) == 5
    assert [cell.lines[0] for cell in row(table, "middle.0").cells] == ["3/8"] * 4
    assert row(table, "first").cells[0].lines == ("8/8",)


def test_the_csv_file_has_a_row_for_each_cell(sample, comparison, tmp_path):
    path = sample("table_files").write_csv(comparison, tmp_path / "results.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert ",".join(rows[0]) == (
        "method,budget,seed,status,reason,top1,float_top1,drop,gbitops,weight_mib,file_bytes,search_seconds,"
        "search_passes,finetune_seconds,finetune_passes,start_top1"
    )
    assert len(rows) == len(comparison.cells)
    assert [(r["method"], r["budget"], r["seed"]) for r in rows[:4]] == [
        ("uniform", "w2a2", "0"),
        ("uniform", "w2a2", "1"),
        ("uniform", "w2a2", "2"),
        ("llt", "w2a2", "0"),
    ]
    by_cell = {(r["method"], r["budget"], r["seed"]): r for r in rows}
    done = by_cell["llt", "w2a2", "1"]
    assert float(done["drop"]) == pytest.approx(92.0 - 87.2)
    assert float(done["file_bytes"]) == 4096
    failed = by_cell["shuffled", "w2a2", "2"]
    assert (failed["status"], failed["reason"], failed["top1"], failed["drop"]) == (
        "failed",
        "ValueError: made up",
        "",
        "",
    )


def test_the_commands_of_the_package_read_the_csv_file(sample, comparison, tmp_path):
    results = sample("table_files").write_csv(comparison, tmp_path / "results.csv")
    picture = tmp_path / "accuracy.png"
    assert llt_nncf(["plot", str(results), "--out", str(picture)]) == 0
    assert picture.stat().st_size > 0


def test_the_markdown_file_has_whole_tables(sample, summary, tmp_path):
    path = sample("table_files").write_markdown(summary, tmp_path / "results.md")
    lines = path.read_text(encoding="utf-8").splitlines()
    tables, current = [], []
    for line in [*lines, ""]:
        if line.startswith("|"):
            current.append(line.replace(r"\|", "").count("|"))
        elif current:
            tables, current = [*tables, current], []
    assert [len(set(widths)) for widths in tables] == [1, 1, 1, 1]
    assert [len(widths) for widths in tables] == [2 + 3, 2 + 4, 2 + 10, 2 + 3]
    assert "| BitOPs of W3A3 | *91.10 ± 0.17*, drop 0.90 | **91.20 ± 0.20**, drop 0.80 |" in "\n".join(lines)
    assert not [line for line in lines if "<b>" in line.replace(r"\<b\>", "")]


def test_a_comparison_without_a_result_says_so(sample, comparison, tmp_path):
    cells = [cell for cell in comparison.cells if cell.budget == "w2a2" and cell.status == "infeasible"]
    cells += [replace(cell, method="llt", status="failed", reason="made up") for cell in cells]
    summary = sample("summary").Summary(replace(comparison, cells=cells))
    path = sample("table_files").write_markdown(summary, tmp_path / "results.md")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "- BitOPs of W2A2: no method has a result." in lines
    assert "| BitOPs of W2A2 | failed [1] | infeasible [2] |" in lines
