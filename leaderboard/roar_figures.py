"""The figures of ROAR: accuracy against the share of removed words, one line per method, its seeds as a band."""

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attrlab.bench.types import Floats
from attrlab.leaderboard.roar import Details, Panel, curve
from attrlab.leaderboard.study_figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SETTINGS

STYLES = tuple(
    (color, dash, marker)
    for dash, marker in (("-", "o"), ("--", "s"), ("-.", "D"))
    for color in (BLUE, ORANGE, GREEN, PURPLE, "#56b4e9", "#e69f00")
)
"""Line of each method, in the order of the run; Okabe and Ito's palette."""

WIDTH, HEIGHT = 4.6, 3.6
"""Inches of one panel."""


def figure(panels: Sequence[Panel], name: str) -> str:
    """Returns the panels of one model and data set side by side as SVG, the same bytes for the same numbers.

    Args:
        panels: Their metrics.
        name: Of the figure in its page: no two things there may have one name.
    """
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": name}):
        drawing = Figure(figsize=(WIDTH * len(panels), HEIGHT), layout="constrained", facecolor="white")
        axes = drawing.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for one, panel in zip(axes, panels, strict=True):
            _draw(one, panel)
        handles = {label: line for one in axes for line, label in zip(*one.get_legend_handles_labels(), strict=True)}
        drawing.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=min(4, max(1, len(handles)))
        )
        file = io.StringIO()
        drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", file.getvalue())


def _draw(axes: Axes, panel: Panel) -> None:
    first = panel.found[0].details
    for index, found in enumerate(panel.found):
        details = found.details
        rows = details.pattern if panel.leak else details.accuracy and details.accuracy.method
        _line(axes, details.shares, rows or (), found.entry.method, STYLES[index % len(STYLES)])
    if first.accuracy is not None:
        _line(axes, first.shares, first.accuracy.random, "removed at random", (GREY, (0, (4, 2)), "x"))
    for height, label, dash in _levels(first):
        axes.axhline(height, color=GREY, linewidth=0.9, linestyle=dash, label=label)
    axes.set_xticks(first.shares)
    axes.set_xlim(0, 100)
    axes.set_xlabel("words removed (% of each text)")
    axes.set_ylabel("test accuracy (0 to 1)")
    axes.set_title(f"{panel.metric}: pattern of removal alone" if panel.leak else panel.metric, loc="left")


def _levels(details: Details) -> list[tuple[float, str, object]]:
    if details.accuracy is None:
        return [(details.majority or 0.0, "most frequent label", (0, (1, 2)))]
    return [
        (float(details.accuracy.whole[0].mean()), "nothing removed", "-"),
        (float(details.accuracy.none[0].mean()), "everything removed", (0, (1, 2))),
    ]


def _line(
    axes: Axes, shares: Sequence[int], rows: Sequence[Floats], label: str, style: tuple[str, object, str]
) -> None:
    color, dash, marker = style
    mean, low, high = curve(rows)
    axes.plot(shares, mean, color=color, linestyle=dash, marker=marker, markersize=3.5, label=label)
    axes.fill_between(shares, low, high, color=color, alpha=0.13, linewidth=0)
