"""The course of an importance training as curves."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llt_nncf.artifacts import TrainingCurves
from llt_nncf.errors import ArtifactError
from llt_nncf.plots.curve import draw_curve
from llt_nncf.plots.palette import BLUE
from llt_nncf.plots.palette import ORANGE
from llt_nncf.plots.palette import SAMPLED_COLOR
from llt_nncf.plots.palette import ranked_color
from llt_nncf.plots.panel_frame import open_frame
from llt_nncf.plots.picture_file import save_figure

_Trajectories = Mapping[tuple[str, int], Mapping[int, float]]


def plot_training(curves: TrainingCurves, path: Path | str) -> Path:
    """
    Draws losses, the stability of the ranking, and how far every indicator has moved, over the optimizer steps.

    The indicators are shown as multiples of their first logged value, a line for each layer and bit-width; those of
    layers with one candidate, at which nothing is chosen, are left out.

    :param curves: Of a training log with at least one step; panels for which there is nothing yet say so.
    :param path: The PNG or SVG file; an existing one is replaced.
    :return: ``path``.
    :raises ArtifactError: If there is no step yet, or the name ends in neither.
    """
    if not curves.losses:
        msg = "The training log has no step with a loss: there is nothing to draw yet."
        raise ArtifactError(msg)
    figure = Figure(figsize=(10.5, 7.0), dpi=150, layout="constrained")
    (loss_axes, tau_axes), (weight_axes, activation_axes) = figure.subplots(2, 2, sharex=True)
    weights, activations = _searched(curves.weights), _searched(curves.activations)
    passes = {name: _uniform_bits(name) for name in curves.losses}
    # The losses tell them from the first step on, the indicators come later.
    bits = {num_bits for _, num_bits in (*weights, *activations)} | {b for b in passes.values() if b is not None}
    colors = {b: ranked_color(rank, len(bits)) for rank, b in enumerate(sorted(bits, reverse=True))}

    for name, num_bits in passes.items():
        color = SAMPLED_COLOR if num_bits is None else colors[num_bits]
        draw_curve(loss_axes, curves.losses[name], color=color, linewidth=1.0)
    loss_axes.set_ylabel("loss")
    _draw_taus(tau_axes, curves)
    _draw_trajectories(weight_axes, weights, colors)
    weight_axes.set_ylabel("weight indicator / first")
    _draw_trajectories(activation_axes, activations, colors)
    activation_axes.set_ylabel("activation indicator / first")
    for axes in (loss_axes, tau_axes, weight_axes, activation_axes):
        open_frame(axes, grid="y")
        if not axes.lines:
            _say_why_blank(axes, curves)
    for axes in (weight_axes, activation_axes):
        axes.set_xlabel("optimizer step")

    handles = [loss_axes.plot([], [], color=color, label=f"{b} bits")[0] for b, color in colors.items()]
    if any(name.startswith("sampled") for name in curves.losses):
        handles += loss_axes.plot([], [], color=SAMPLED_COLOR, label="sampled policy")
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=9)
    return save_figure(figure, path)


def _uniform_bits(name: str) -> int | None:
    """6 of ``uniform-6``."""
    kind, _, number = name.partition("-")
    return int(number) if kind == "uniform" and number.isdecimal() else None


def _searched(trajectories: _Trajectories) -> _Trajectories:
    counts = Counter(name for name, _ in trajectories)
    return {key: values for key, values in trajectories.items() if counts[key[0]] > 1}


def _draw_taus(axes: Axes, curves: TrainingCurves) -> None:
    for values, label, color in (
        (curves.tau, "against a window ago", BLUE),
        (curves.tau_from_start, "against the start values", ORANGE),
    ):
        if values:
            draw_curve(axes, values, color=color, linewidth=1.5, label=label)
    axes.set_ylabel("Kendall's tau of the ranking")
    if axes.lines:
        axes.legend(frameon=False, fontsize=9, loc="best")


def _draw_trajectories(axes: Axes, trajectories: _Trajectories, colors: Mapping[int, object]) -> None:
    for (_, bits), values in trajectories.items():
        first = next(iter(values.values()))
        if first > 0:
            multiples = {step: value / first for step, value in values.items()}
            draw_curve(axes, multiples, color=colors[bits], linewidth=0.8, alpha=0.7)


def _say_why_blank(axes: Axes, curves: TrainingCurves) -> None:
    have_come = curves.weights or curves.activations
    text = "every layer has one bit-width here" if have_come else "no indicators in the log yet"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color="0.35")
    axes.set_yticks([])
