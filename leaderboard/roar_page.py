"""The page of the metrics that train: curves and tables in one self-contained HTML file, dressed as the leaderboard."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from attrlab.leaderboard.board import Board
from attrlab.leaderboard.roar import Line, Panel, clock, lines
from attrlab.leaderboard.roar_figures import figure
from attrlab.leaderboard.statistics import Aggregate
from attrlab.leaderboard.study_figures import inline
from attrlab.leaderboard.template import fill
from attrlab.leaderboard.webpage import DIRECTIONS

HEADS = {False: ("RACU", "over seeds", "trainings"), True: ("above the most frequent label", "trainings")}
"""Columns of a metric, by whether it is the leak control."""

_MINUS = str.maketrans("-", "\N{MINUS SIGN}")


class Cell(NamedTuple):
    """A cell of the table: its text, an interval below it, or why there is no number."""

    text: str
    interval: str = ""
    reason: str = ""


def page(board: Board, panels: Sequence[Panel]) -> str:
    """Returns the HTML page of ROAR: no network, no file beside it.

    Args:
        board: What was read from the results folder.
        panels: What :func:`attrlab.leaderboard.roar.panels` read from it; at least one.
    """
    blocks = groupby(panels, key=lambda panel: (panel.dataset, panel.model))
    cards = {card.name: card for card in board.metrics}
    return fill(
        "roar.html.j2",
        board=board,
        sections=[_section(board, list(group), f"f{index}") for index, (_, group) in enumerate(blocks)],
        metrics=[
            (name, cards[name].summary.rstrip("."), DIRECTIONS[cards[name].higher_is_better])
            for name in dict.fromkeys(panel.metric for panel in panels)
        ],
    )


def _section(board: Board, panels: Sequence[Panel], name: str) -> dict[str, Any]:
    """Returns what the page shows of one model on one data set."""
    title = f"Accuracy of {panels[0].model} on {panels[0].dataset} against the share of removed words"
    by_method: dict[str, list[list[Cell]]] = {found.entry.method: [] for panel in panels for found in panel.found}
    for panel in panels:
        for line in lines(board, panel):
            by_method[line.method].append(_cells(line, leak=panel.leak))
    return {
        "dataset": panels[0].dataset,
        "model": panels[0].model,
        "title": title,
        "drawing": Markup(inline(figure(panels, name), str(escape(title)))),
        "heads": [(panel.metric, HEADS[panel.leak]) for panel in panels],
        "rows": [(method, [cell for cells in found for cell in cells]) for method, found in by_method.items()],
    }


def _cells(line: Line, *, leak: bool) -> list[Cell]:
    """Returns the value of a method with its interval over texts, then its range over seeds, then the time."""
    spread = [] if leak else [Cell(_range(line.low, line.high))]
    return [_value(line.value, clipped=not leak), *spread, Cell(clock(line.seconds))]


def _value(found: Aggregate, *, clipped: bool) -> Cell:
    """Returns a mean and its interval as text; RACU is clipped to [-1, 1] here, after the mean is taken."""
    if found.mean is None:
        return Cell(found.status, reason=found.reason or "")
    low, high = (-1.0, 1.0) if clipped else (-math.inf, math.inf)
    ends = [None if end is None else max(low, min(high, end)) for end in (found.ci_low, found.ci_high)]
    return Cell(_text(max(low, min(high, found.mean))), _range(*ends))


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{_text(low)}, {_text(high)}]"


def _text(value: float) -> str:
    return f"{value:.3f}".translate(_MINUS)
