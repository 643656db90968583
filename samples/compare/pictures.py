"""The pictures of a comparison."""

import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from results import Comparison
from summary import Summary

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import IndicatorTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.plots import AccuracyPoint
from llt_nncf.plots import plot_accuracy
from llt_nncf.plots import plot_bits
from llt_nncf.plots import plot_indicators
from llt_nncf.plots import plot_losses

# Figure -> what the picture is called after it, and its axis.
_COSTS = {"gbitops": ("BitOPs", "BitOPs, 1e9"), "weight_mib": ("size", "weights at their bits, MiB")}


@dataclass(frozen=True)
class Picture:
    """
    A picture that can be drawn.

    :param name: Of its files, without their ending.
    :param kind: ``accuracy``, ``bits``, ``indicators`` or ``losses``.
    :param caption: What it shows.
    :param draw: Draws it as the PNG or SVG file of the path that it is given.
    """

    name: str
    kind: str
    caption: str
    draw: Callable[[Path], object]


def all_pictures(summary: Summary) -> list[Picture]:
    """Returns the pictures that the cells have the data for, kind by kind."""
    return [*_accuracy(summary), *_bits(summary), *_indicators(summary.comparison), *_losses(summary)]


def accuracy_points(summary: Summary, cost: str) -> list[AccuracyPoint]:
    """
    Returns a point for each method and budget that has a result.

    :param cost: ``gbitops`` or ``weight_mib``.
    """
    points = []
    for (method, budget), group in summary.groups.items():
        top1, price = group.figure("top1"), group.figure(cost)
        if top1 and price:
            label = summary.comparison.methods[method]
            points.append(AccuracyPoint(label, budget, price.mean, top1.mean, top1.spread or 0.0))
    return points


def _accuracy(summary: Summary) -> Iterator[Picture]:
    labels = "; ".join(f"{key}: {summary.comparison.budgets[key]}" for key in summary.budgets)
    for cost, (noun, x_label) in _COSTS.items():
        points = accuracy_points(summary, cost)
        if points:
            caption = f"Top-1 against {noun}: a point for each method and budget, its bar the spread. {labels}."
            draw = partial(plot_accuracy, points, x_label=x_label, float_top1=summary.comparison.float_top1)
            yield Picture(f"accuracy_{cost}", "accuracy", caption, draw)


def _bits(summary: Summary) -> Iterator[Picture]:
    """The bits of the main method, at each budget those of the first seed that has any."""
    table = LayerTable.from_dict(summary.comparison.layers)
    labels = summary.comparison.budgets
    for budget in summary.budgets:
        cell = summary.first_done(summary.main_method or "", budget, "bits")
        if cell is not None:
            caption = f"Bits of {summary.comparison.methods[cell.method]} at {labels[budget]}, seed {cell.seed}."
            policy = BitPolicy(cell.bits)
            draw = partial(plot_bits, _with_candidates(table, policy), policy)
            yield Picture(f"bits_{_file_name(budget)}", "bits", caption, draw)


def _with_candidates(table: LayerTable, policy: BitPolicy) -> LayerTable:
    """The table with the policy's bits among the candidates: budgets for weights alone leave activations at 8 bits."""
    layers = []
    for layer in table.layers:
        pairs = zip((layer.weight_bits, layer.activation_bits), policy.bits[layer.name], strict=True)
        weight_bits, activation_bits = (tuple(sorted({*bits, own}, reverse=True)) for bits, own in pairs)
        layers.append(dataclasses.replace(layer, weight_bits=weight_bits, activation_bits=activation_bits))
    return LayerTable(tuple(layers))


def _indicators(comparison: Comparison) -> Iterator[Picture]:
    for name, content in comparison.indicators.items():
        where = f"indicators {name!r} of the comparison"
        indicators = IndicatorTable.from_dict(content, LayerTable.from_dict(content, where), where)
        if not indicators.table.is_fixed:
            caption = f"Indicators {name!r} of the first seed: {indicators.source}."
            draw = partial(plot_indicators, indicators)
            yield Picture(f"indicators_{_file_name(name)}", "indicators", caption, draw)


def _losses(summary: Summary) -> Iterator[Picture]:
    """The fine-tuning of all methods at a contested budget, with the first seed of each that has losses."""
    for budget in summary.contested:
        cells = [summary.first_done(method, budget, "losses") for method in summary.methods]
        curves = {summary.comparison.methods[cell.method]: cell.losses for cell in cells if cell is not None}
        if curves:
            caption = f"Loss of the fine-tuning at {summary.comparison.budgets[budget]}, first seed of each method."
            yield Picture(f"losses_{_file_name(budget)}", "losses", caption, partial(plot_losses, curves))


def _file_name(key: str) -> str:
    """A key of the config without what file systems take for more than a name."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in key)
