"""``llt-nncf plot policy.json --out bits.svg``"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import TrainingCurves
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.artifacts import reading
from llt_nncf.artifacts.bit_policy import BIT_POLICY_SCHEMA
from llt_nncf.artifacts.indicator_table import INDICATORS_SCHEMA
from llt_nncf.artifacts.json_file import schema_of
from llt_nncf.artifacts.layer_table import LAYER_TABLE_SCHEMA
from llt_nncf.artifacts.training_log import TRAINING_LOG_SCHEMA
from llt_nncf.cli.comparison_results import load_accuracy_points
from llt_nncf.cli.frontier_file import FRONTIER_SCHEMA
from llt_nncf.cli.frontier_file import load_frontier
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import located
from llt_nncf.plots import picture_format
from llt_nncf.plots import plot_accuracy
from llt_nncf.plots import plot_bits
from llt_nncf.plots import plot_frontier
from llt_nncf.plots import plot_indicators
from llt_nncf.plots import plot_training

_FILES = "indicators.json, policy.json, importance.jsonl, frontier.json, or results.csv of a comparison"
_COSTS = {"gbitops": "BitOPs, 1e9", "weight_mib": "weights, MiB"}
_RESULTS = "results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument("file", type=Path, help=f"what is drawn: {_FILES}")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the picture, FILE.png or FILE.svg")
    parser.add_argument(
        "--layers",
        type=Path,
        help="of a policy: layers.json or indicators.json of its model (default: the one beside the policy)",
    )
    parser.add_argument("--x", default="gbitops", choices=_COSTS, help="of results: the cost (default gbitops)")


def run(options: argparse.Namespace) -> int:
    """Draws the file, whichever of the kinds it is."""
    picture_format(options.out)  # a wrong name is known before a long file is read
    kind = _kind_of(options.file)
    if kind not in _DRAWN:
        msg = f"{options.file}: its schema is {kind}, which has no picture. Name one of {_FILES}."
        raise ArtifactError(msg)
    print(f"Picture: {_DRAWN[kind](options)}")
    return 0


def _kind_of(path: Path) -> str:
    """The schema that a file of JSON, or of lines of JSON, names; or ``results``."""
    with reading(path, f"one of {_FILES}"), path.open(encoding="utf-8") as file:
        first = next((line for line in file if line.strip()), "")
    if not first:
        msg = f"{path}: it is empty. Name one of {_FILES}."
        raise ArtifactError(msg)
    if not first.lstrip().startswith("{"):
        return _RESULTS
    try:
        return str(json.loads(first).get("schema"))
    except (ValueError, RecursionError):  # it goes on in the next line
        return str(schema_of(path))


def _draw_indicators(options: argparse.Namespace) -> Path:
    indicators = IndicatorTable.load(options.file)
    with located(options.file):
        return plot_indicators(indicators, options.out)


def _draw_policy(options: argparse.Namespace) -> Path:
    policy = BitPolicy.load(options.file)
    beside = [options.file.with_name(name) for name in ("layers.json", "indicators.json")]
    path = options.layers or next((path for path in beside if path.exists()), None)
    if path is None:
        msg = f"{options.file}: the layers are needed, too: --layers FILE, their layers.json or indicators.json."
        raise ArtifactError(msg)
    table = LayerTable.load(path) if schema_of(path) == LAYER_TABLE_SCHEMA else load_scored_layers(path).table
    with located(f"{options.file}, with the layers of {path}"):
        policy.check(table)
    return plot_bits(table, policy, options.out)


def _draw_training(options: argparse.Namespace) -> Path:
    curves = TrainingCurves.load(options.file)
    with located(options.file):
        return plot_training(curves, options.out)


def _draw_frontier(options: argparse.Namespace) -> Path:
    return plot_frontier(*load_frontier(options.file), options.out)


def _draw_results(options: argparse.Namespace) -> Path:
    points, float_top1 = load_accuracy_points(options.file, cost=options.x)
    return plot_accuracy(points, options.out, x_label=_COSTS[options.x], float_top1=float_top1)


_DRAWN: dict[str, Callable[[argparse.Namespace], Path]] = {
    INDICATORS_SCHEMA: _draw_indicators,
    BIT_POLICY_SCHEMA: _draw_policy,
    TRAINING_LOG_SCHEMA: _draw_training,
    FRONTIER_SCHEMA: _draw_frontier,
    _RESULTS: _draw_results,
}
