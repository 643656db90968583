"""A horizontal axis of layers, in as many rows as it takes for names and bars to stay readable."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import pairwise
from os.path import commonprefix

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llt_nncf.plots.panel_frame import open_frame

_MAX_NAME = 28
_WORD = re.compile(r"[^\W\d_]+")
_MOST_IN_A_ROW = 40
_FEW = 12

# Inches; a character of the names is 8 points high and about 0.6 times as wide.
_LAYER_WIDTH = 0.27
_LEAST_WIDTH = 6.8  # the legends need it
_CHARACTER_WIDTH = 0.067


def layer_rows(num_layers: int) -> list[range]:
    """
    Returns which layers stand in each row: at most 40, as evenly as can be, the first rows longer.

    >>> layer_rows(81)
    [range(0, 27), range(27, 54), range(54, 81)]
    """
    count = max(1, math.ceil(num_layers / _MOST_IN_A_ROW))
    length, longer = divmod(num_layers, count)
    starts = [row * length + min(row, longer) for row in range(count + 1)]
    return [range(start, end) for start, end in pairwise(starts)]


def layer_figure(names: Sequence[str], *, kinds: int, panel_height: float) -> tuple[Figure, list[list[Axes]]]:
    """
    Returns a figure with panels over the layers; the layers' names stand below the last panel of every row.

    In each panel a layer is at its number in ``names``, from 0.

    :param names: The layers' names; long ones are shortened, see ``short_names``.
    :param kinds: Number of panels over the same layers; all panels of one kind have one vertical axis.
    :param panel_height: Inches.
    :return: The figure, and the panels by row (see ``layer_rows``) and kind.
    """
    rows = layer_rows(len(names))
    shown = short_names(names)
    name_height = _CHARACTER_WIDTH * max(map(len, shown), default=0)
    width = max(_LEAST_WIDTH, 1.6 + _LAYER_WIDTH * len(rows[0]))
    height = 0.5 + len(rows) * (kinds * panel_height + name_height)
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    flat = figure.subplots(len(rows) * kinds, squeeze=False)[:, 0]
    panels = [list(flat[row * kinds : (row + 1) * kinds]) for row in range(len(rows))]
    for row, row_panels in zip(rows, panels, strict=True):
        for kind, axes in enumerate(row_panels):
            open_frame(axes, grid="y")
            if axes is not panels[0][kind]:
                axes.sharey(panels[0][kind])
            _label_layers(axes, row, shown[row.start : row.stop], few=len(names) <= _FEW)
            axes.set_xlim(row.start - 0.7, row.start + len(rows[0]) - 0.3)  # bars are as wide in a shorter row
            axes.tick_params(labelbottom=axes is row_panels[-1])
    return figure, panels


def short_names(names: Sequence[str]) -> list[str]:
    """
    Returns the names, those of more than 28 characters shortened so that they stay different.

    If there are such, all lose the modules that they have in common. Words are cut from the left, until the name fits,
    to the letters that tell them from the other words at their place. Digits stay; what is too long then loses its
    middle.

    >>> short_names(["encoder.layers.10.attention.self.query", "encoder.layers.11.attention.self.query"])
    ['…10.attention.self.query', '…11.attention.self.query']
    >>> short_names(["encoder.layers.10.attention.self.query", "embeddings.projection", "head"])
    ['en.l.10.attention.self.query', 'embeddings.projection', 'head']
    """
    common = commonprefix(names).rpartition(".")[0]
    if common and len(names) > 1 and max(map(len, names)) > _MAX_NAME:
        names = ["…" + name[len(common) + 1 :] for name in names]
    words_after: dict[str, set[str]] = defaultdict(set)  # by all that stands in front of them
    for name in names:
        for word in _WORD.finditer(name):
            words_after[name[: word.start()]].add(word[0])
    return [_short_name(name, words_after) for name in names]


def _short_name(name: str, words_after: Mapping[str, set[str]]) -> str:
    too_many = len(name) - _MAX_NAME
    short, end = "", 0
    for match in _WORD.finditer(name):
        word, before = match[0], name[: match.start()]
        if too_many > 0:
            alike = [len(commonprefix([word, other])) for other in words_after[before] - {word}]
            word = word[: 1 + max(alike, default=0)]
            too_many -= len(match[0]) - len(word)
        short += before[end:] + word
        end = match.end()
    short += name[end:]
    half = _MAX_NAME // 2
    return short if len(short) <= _MAX_NAME else f"{short[: half - 1]}…{short[-half:]}"


def _label_layers(axes: Axes, places: range, names: Sequence[str], *, few: bool) -> None:
    axes.set_xticks(
        places,
        names,
        rotation=40 if few else 90,
        ha="right" if few else "center",
        rotation_mode="anchor" if few else "default",
        fontsize=9 if few else 8,
        parse_math=False,
    )
    axes.tick_params(axis="x", length=0)
