"""
All methods, budgets and seeds side by side: choose bits, train with them, report.

    python samples/compare/main.py --config configs/compare/resnet20_cifar10.json --data DIR --weights FILE

It can be stopped at any time; the same command goes on, and the report shows what there is by then.
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "classification"))

# isort: split

import torch
from cell_files import CellFiles
from choices import indicator_folder
from kept_plan import keep_plan
from made_with import made_with
from plan import Plan
from report import write_report
from results import Cell
from results import Comparison
from rich.console import Console
from running import run
from setting import Setting

from llt_nncf.artifacts.indicator_table import INDICATORS_SCHEMA
from llt_nncf.artifacts.json_file import load_json
from llt_nncf.artifacts.json_file import save_json
from llt_nncf.errors import ConfigError
from llt_nncf.errors import LltError

_FLOAT_SCHEMA = "llt_nncf.comparison_float/1"


def count(text: str) -> int:
    """Reads a number of at least 1."""
    value = int(text)
    if value < 1:
        msg = f"{text} is given, and must be at least 1"
        raise argparse.ArgumentTypeError(msg)
    return value


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=Path, help="the comparison")
    parser.add_argument("--data", type=Path, help="folder of the data set")
    parser.add_argument("--weights", type=Path, help=".safetensors file of the float model; random ones by default")
    parser.add_argument("--out", type=Path, help="folder of all files; out/ and the config's name by default")
    parser.add_argument("--workers", type=count, default=os.cpu_count(), help="processes, which share the cores")
    parser.add_argument("--seeds", type=int, nargs="+", help="these seeds of the config only")
    parser.add_argument("--methods", nargs="+", help="these methods of the config only")
    parser.add_argument("--budgets", nargs="+", help="these budgets of the config only")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, to train on; rivals choose on the CPU")
    parser.add_argument("--train-samples", type=count, help="so many of the training set only")
    parser.add_argument("--test-samples", type=count, help="so many of the test set only")
    parser.add_argument("--report-only", action="store_true", help="report what is finished, and do nothing else")
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: PyTorch finds no GPU here")
    return options


def float_top1(setting: Setting, *, report_only: bool) -> float:
    """
    Returns the float model's accuracy, which is measured once, and keeps the plan, now that there are data and a model.

    :raises ConfigError: If the folder has results of another plan, or none to report.
    """
    path = setting.out / "float.json"
    is_known = path.exists()
    if report_only and not is_known:
        msg = f"{setting.out} has no results yet; leave out --report-only."
        raise ConfigError(msg)
    top1 = load_json(path, _FLOAT_SCHEMA)["top1"] if is_known else setting.top1(setting.float_model())
    keep_plan(setting, only_compare=report_only)
    if not is_known:
        save_json(path, _FLOAT_SCHEMA, {"top1": top1})
    return top1


def indicators(setting: Setting) -> dict[str, Any]:
    """Returns the indicators of the first seed."""
    seed = setting.plan.seeds[0]
    return {
        name: load_json(path, INDICATORS_SCHEMA)
        for name in setting.plan.indicators
        if (path := indicator_folder(setting, name, seed) / "indicators.json").exists()
    }


def selected(plan: Plan, options: argparse.Namespace) -> list[tuple[str, str, int]]:
    """
    Returns the cells that the options leave.

    :raises ConfigError: If the config does not have what they name, or nothing is left.
    """
    for option, known in (("methods", plan.methods), ("budgets", plan.budgets), ("seeds", plan.seeds)):
        unknown = [name for name in getattr(options, option) or () if name not in known]
        if unknown:
            named = ", ".join(map(str, unknown))
            msg = f"--{option} names {named}; {options.config} has {', '.join(map(str, known))}."
            raise ConfigError(msg)
    keys = [
        (method, budget, seed)
        for method, budget, seed in plan.cells()
        if method in (options.methods or plan.methods)
        and budget in (options.budgets or plan.budgets)
        and seed in (options.seeds or plan.seeds)
    ]
    if not keys:
        msg = f"No cell is left: these methods do not run at these budgets, see methods.*.budgets in {options.config}."
        raise ConfigError(msg)
    return keys


def main(arguments: list[str] | None = None) -> Comparison:
    """Does what is left of the comparison, writes the report, and returns it."""
    options = parse(arguments)
    plan = Plan.load(options.config)
    out = options.out or Path("out") / options.config.stem
    where = {"data": options.data, "weights": options.weights, "device": options.device}
    setting = Setting(plan, out, **where, train_samples=options.train_samples, test_samples=options.test_samples)
    keys = selected(plan, options)
    console = Console()
    top1 = float_top1(setting, report_only=options.report_only)
    console.print(f"Float model: top-1 {top1:.2f} %. {len(keys)} cells.")
    provenance = made_with(options, out)
    failed = {} if options.report_only else run(setting, keys, workers=options.workers, console=console)
    cells = [Cell(*key, "failed", failed[key]) if key in failed else CellFiles(out).load(*key) for key in plan.cells()]
    comparison = Comparison(
        about=plan.about,
        config=dataclasses.asdict(plan),
        **provenance,
        float_top1=top1,
        methods={key: method.label for key, method in plan.methods.items()},
        budgets={key: budget.label for key, budget in plan.budgets.items()},
        layers=setting.layers.to_dict(),
        indicators=indicators(setting),
        planned=plan.cells(),
        cells=list(filter(None, cells)),
    )
    comparison.save(out / "results.json")
    for path in write_report(comparison, out):
        console.print(f"Written: {path}")
    return comparison


if __name__ == "__main__":
    try:
        main()
    except (LltError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
