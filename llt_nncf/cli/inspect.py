"""``llt-nncf inspect model.onnx --policy policy.json``"""

import argparse
import json
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llt_nncf.artifacts import POLICY_KEY
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import some_of
from llt_nncf.validation import FileContents
from llt_nncf.validation import read_contents
from llt_nncf.validation.file_contents import ActivationContents

# What a folder is looked through for.
_NAMES = ("model.onnx", "model.xml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("model", type=Path, help="model.onnx, model.xml, or their folder, as this package exported it")
    parser.add_argument("--policy", metavar="OUT", help="write the policy, rebuilt from the file alone, as JSON")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of tables")
    parser.add_argument("--no-kernels", action="store_true", help="do not load the file into the engines")


def run(options: argparse.Namespace) -> int:
    """Prints what the file holds, and saves its policy if that is asked for."""
    model = options.model
    if model.is_dir():
        model = next((file for name in _NAMES if (file := model / name).exists()), model / _NAMES[0])
    contents = read_contents(model, with_kernels=not options.no_kernels)
    if options.json:
        print(json.dumps(contents.to_dict(), indent=1))
    else:
        _print(contents)
    if options.policy is not None:
        contradicts = contents.policy_source == "metadata" and contents.remarks
        if contents.policy is None or contradicts:
            msg = f"{contents.path}: no policy was written. {some_of(contents.remarks, 3, ' ')}"
            raise ArtifactError(msg)
        path = contents.policy.save(options.policy)
        if not options.json:
            print(f"Policy, from the {contents.policy_source}: {path}")
    return 0


def _print(contents: FileContents) -> None:
    console = Console(highlight=False)
    for table in (_layer_table(contents), _kernel_table(contents), _activation_table(contents)):
        if table.row_count:
            console.print(table)
    weights = sum(layer.weight_count for layer in contents.layers)
    stored = sum(layer.stored_bytes for layer in contents.layers)
    console.print(
        f"{weights} weights in {stored} bytes, {8 * stored / weights:.2f} bits each; file {contents.file_bytes} bytes"
    )
    for key, value in contents.metadata.items():
        if key != POLICY_KEY:
            console.print(f"{key}: {value}", markup=False)
    console.print("no policy" if contents.policy is None else f"policy: from the {contents.policy_source}")
    for remark in contents.remarks:
        console.print(f"Note: {remark}", style="yellow", markup=False)


def _layer_table(contents: FileContents) -> Table:
    table = _table("Layers", "layer", "input", "stored as", "bits", "needed", "bytes", "step sizes")
    inputs = {activation.name: activation for activation in contents.activations}
    for layer in contents.layers:
        _, low, high = layer.step_sizes
        table.add_row(
            escape(layer.name),
            ", ".join(_grid(inputs[name]) if name else "float" for name in layer.quantizers),
            layer.container,
            "" if layer.weight_bits is None else str(layer.weight_bits),
            str(layer.needed_bits),
            str(layer.stored_bytes),
            f"{low:.2g}" if low == high else f"{low:.2g}..{high:.2g}",
        )
    return table


def _kernel_table(contents: FileContents) -> Table:
    engines = list(dict.fromkeys(engine for layer in contents.layers for engine in layer.kernels))
    table = _table("Kernels", "layer", *engines)
    for layer in contents.layers if engines else ():
        table.add_row(escape(layer.name), *(layer.kernels.get(engine, "not found") for engine in engines))
    return table


def _activation_table(contents: FileContents) -> Table:
    table = _table("Activation quantizers", "quantizer", "bits", "codes", "step size")
    for row in contents.activations:
        note = " (narrowed)" if row.is_narrowed else ""
        table.add_row(escape(row.name), _grid(row), f"{row.low}..{row.high}{note}", f"{row.step_size:.4g}")
    return table


def _grid(activation: ActivationContents) -> str:
    return f"{'s' if activation.signed else 'u'}{activation.num_bits}"


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for heading in (first, *others):
        table.add_column(heading, overflow="fold")
    return table
