"""A validation report as tables for the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from llt_nncf.artifacts import ValidationReport
from llt_nncf.validation.cost_table import cost_sentences
from llt_nncf.validation.cost_table import cost_tables
from llt_nncf.validation.figure_table import figure_table
from llt_nncf.validation.figure_table import number


def print_report(report: ValidationReport, console: Console | None = None) -> None:
    """
    Prints the verdict, one table per engine matter, and one row per layer.

    :param report: The report.
    :param console: Where to print; the standard output by default.
    """
    console = console or Console()
    sections = report.sections
    before = [_engine_table(sections), _node_table(sections), _data_table(sections)]
    after = [_layer_table(sections), _layer_by_layer_table(sections), _code_table(sections)]
    for table in (*before, *cost_tables(sections), *after):
        if table.row_count:
            console.print(table)
    for sentence in cost_sentences(sections):
        console.print(sentence, markup=False, highlight=False)
    for warning in sections.get("warnings", ()):
        console.print(f"Warning: {warning}", style="yellow", markup=False)
    for fault in report.faults:
        console.print(f"Fault: {fault}", style="red", markup=False)
    verdict, style = ("Validation passed.", "green") if report.passed else ("Validation failed.", "bold red")
    console.print(verdict, style=style)


def _engine_table(sections: Any) -> Table:
    table = figure_table("Outputs", "Engine", "Top-1", "Agreement", "Max\ndifference", "in steps", "Integer\nlayers")
    pytorch = sections.get("pytorch", {})
    for label, key in (("PyTorch, float", "float_accuracy"), ("PyTorch, frozen", "accuracy")):
        if pytorch.get(key) is not None:
            table.add_row(label, _percent(pytorch[key]), "", "", "", "")
    for engine, row in sections.get("engines", {}).items():
        kernels = row.get("kernels", {})
        integer = sum(kernel["is_integer"] is True for kernel in kernels.values())
        table.add_row(
            engine,
            _percent(row.get("accuracy")),
            _percent(row.get("agreement")),
            number(row.get("max_abs_difference")),
            number(row.get("max_difference_steps")),
            f"{integer} of {len(kernels)}" if kernels else "",
        )
    return table


def _node_table(sections: Any) -> Table:
    table = figure_table(
        "In integers, beside the layers", "Engine", "Residual\nadditions", "Poolings", "Nodes in float"
    )
    for engine, row in sections.get("engines", {}).items():
        if nodes := row.get("nodes"):
            counts = [f"{nodes[kind]['integer']} of {sum(nodes[kind].values())}" for kind in ("additions", "poolings")]
            in_float = ", ".join(f"{count} {kind}" for kind, count in nodes["float_nodes"].items())
            table.add_row(engine, *counts, in_float or "0")
    return table


def _data_table(sections: Any) -> Table:
    data = sections.get("data", {"engines": {}})
    names = list(dict.fromkeys(name for row in data["engines"].values() for name in row))
    headers = [name.replace("accuracy", "Accuracy") for name in names]
    table = figure_table(f"Own data, {data.get('samples')} samples", "Engine", *headers, "Engines\nagree")
    for engine, row in data["engines"].items():
        figures = [_percent(row.get(name)) if name == "accuracy" else number(row.get(name)) for name in names]
        table.add_row(engine, *figures, _percent(data["agreement"]))
    return table


def _layer_table(sections: Any) -> Table:
    engines = sections.get("engines", {})
    table = figure_table("Layers", "Layer", "Weight\nbits", "Bits\nneeded", *engines)
    for name, row in sections.get("bit_widths", {}).get("weights", {}).items():
        kernels = [_kernel(engine.get("kernels", {}).get(name)) for engine in engines.values()]
        table.add_row(name, str(row["policy_bits"]), str(row["needed_bits"]), *kernels)
    return table


def _layer_by_layer_table(sections: Any) -> Table:
    title = "Layer by layer, every layer fed with PyTorch's codes"
    table = figure_table(title, "Engine", "Codes", "Equal", "Ties", "Ties to the\nother side", "Wrong")
    for engine, row in sections.get("engines", {}).items():
        if "layer_by_layer" in row:
            figures = row["layer_by_layer"]
            counts = [figures[key] for key in ("elements", "exact", "ties", "ties_other_way")]
            table.add_row(engine, *map(str, counts), str(counts[0] - counts[1] - counts[3]))
    return table


def _code_table(sections: Any) -> Table:
    engines = {name: row["codes"] for name, row in sections.get("engines", {}).items() if "codes" in row}
    table = figure_table(
        "Codes that differ from PyTorch's, and by how many steps at most", "Quantizer", "Bits", "Codes", *engines
    )
    for name, grid in sections.get("bit_widths", {}).get("activations", {}).items():
        cells = []
        for codes in engines.values():
            row = codes["quantizers"].get(name)
            cells.append(f"{_percent(row['share_different'])}, {row['max_difference_steps']}" if row else "")
        bits = "" if grid["policy_bits"] is None else str(grid["policy_bits"])
        table.add_row(name, bits, f"{grid['low']}..{grid['high']}", *cells)
    return table


def _kernel(row: Any) -> str:
    if row is None or row["is_integer"] is None:
        return "?"
    return "int8" if row["is_integer"] else "float"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
