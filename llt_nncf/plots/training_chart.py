"""The course of an importance training as curves."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llt_nncf.artifacts import TrainingCurves
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

    :param curves: Of a training log with at least one step.
    :param path: The PNG or SVG file; an existing one is replaced.
    :return: ``path``.
    :raises ArtifactError: If the name ends in neither.
    """
    figure = Figure(figsize=(10.5, 7.0), dpi=150, layout="constrained")
    (loss_axes, tau_axes), (weight_axes, activation_axes) = figure.subplots(2, 2, sharex=True)
    weights, activations = _searched(curves.weights), _searched(curves.activations)
    bits = sorted({num_bits for _, num_bits in (*weights, *activations)}, reverse=True)
    colors = {b: ranked_color(rank, len(bits)) for rank, b in enumerate(bits)}

    for name, losses in curves.losses.items():
        kind, _, number = name.partition("-")
        color = colors.get(int(number), "0.2") if kind == "uniform" else SAMPLED_COLOR
        loss_axes.plot(list(losses), list(losses.values()), color=color, linewidth=1.0)
    loss_axes.set_ylabel("loss")

    for values, label, color in (
        (curves.tau, "against a window ago", BLUE),
        (curves.tau_from_start, "against the start values", ORANGE),
    ):
        tau_axes.plot(list(values), list(values.values()), color=color, linewidth=1.5, label=label)
    tau_axes.set_ylabel("Kendall's tau of the ranking")
    tau_axes.legend(frameon=False, fontsize=9, loc="best")

    _draw_trajectories(weight_axes, weights, colors)
    weight_axes.set_ylabel("weight indicator / first")
    _draw_trajectories(activation_axes, activations, colors)
    activation_axes.set_ylabel("activation indicator / first")
    for axes in (loss_axes, tau_axes, weight_axes, activation_axes):
        open_frame(axes, grid="y")
    for axes in (weight_axes, activation_axes):
        axes.set_xlabel("optimizer step")

    handles = [loss_axes.plot([], [], color=color, label=f"{b} bits")[0] for b, color in colors.items()]
    if any(name.startswith("sampled") for name in curves.losses):
        handles += loss_axes.plot([], [], color=SAMPLED_COLOR, label="sampled policy")
    figure.legend(handles=handles, loc="outside upper left", ncols=max(1, len(handles)), frameon=False, fontsize=9)
    return save_figure(figure, path)


def _searched(trajectories: _Trajectories) -> _Trajectories:
    counts = Counter(name for name, _ in trajectories)
    return {key: values for key, values in trajectories.items() if counts[key[0]] > 1}


def _draw_trajectories(axes: Axes, trajectories: _Trajectories, colors: Mapping[int, object]) -> None:
    for (_, bits), values in trajectories.items():
        steps, points = list(values), list(values.values())
        if points[0] > 0:
            axes.plot(steps, [point / points[0] for point in points], color=colors[bits], linewidth=0.8, alpha=0.7)
