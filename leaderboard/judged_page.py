"""The page of the metrics judged: which to trust, what that rests on, and how alike they order methods."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from attrlab.leaderboard.board import Board, Column
from attrlab.leaderboard.judged import Agreement, Judgement, Row, judge
from attrlab.leaderboard.judged_readings import FEW
from attrlab.leaderboard.judged_verdict import BARRED, OPEN, TRUST, WEAK, Reading
from attrlab.leaderboard.tables import arrow, heading, names, numbers, setting
from attrlab.leaderboard.template import fill

HEADS = (
    ("diagnosticity", "diagnosticity", "real against knowing nothing; chance 0.5"),
    ("ladder", "ladder", "decay in order; chance 0.5"),
    ("reliability", "reliability", "same order on other examples"),
    ("cheater", "cheater", "beats random; 0.5 is deserved"),
    ("separated", "told apart", f"pairs of methods; at n={FEW} below"),
    ("operators", "operators", "same order under others"),
    ("gain", "own operator", "ranks gained by asking alike"),
    ("floor", "floor", "mean of random"),
    ("ceiling", "ceiling", "mean of the greedy oracle"),
    ("place", "best method", "0 is the floor, 1 the oracle"),
)
"""Readings in the order of the table: field, heading, what it is."""

BELOW = {
    "ladder": ("ladder_rank", "rung correlation", "\N{GREEK SMALL LETTER RHO} "),
    "separated": ("separated_few", f"told apart at n={FEW}", f"{FEW}: "),
}
"""Readings that stand below another one: field, name, what stands before the number."""

OWN_UNITS = {"floor", "ceiling"}
"""Readings in the metric's own units; all others are shares, correlations or ranks."""

STYLES = {TRUST: "trust", WEAK: "weak", BARRED: "barred", OPEN: "open"}
"""Style of each verdict."""

CELL = (27, 19)
"""Width and height of a cell of the agreement matrix, about pixels."""

MARGIN = (250, 22)
"""Room for the names of the rows, and for the numbers of the columns."""

_NAMED = 8  # columns that a sentence names
_SHADES = 8  # per sign
_MINUS = str.maketrans("-", "\N{MINUS SIGN}")


class Cell(NamedTuple):
    """A cell of the table: its text, what stands below it, what to sort by, and what to say when pointed at."""

    text: str
    below: tuple[str, ...]
    sort: str
    title: str


def page(board: Board) -> str:
    """Returns the HTML page of the metrics judged: no network, no file beside it."""
    found = judge(board)
    blocks = list(dict.fromkeys((row.dataset, row.model) for row in found.rows))
    agreements = {(one.dataset, one.model): one for one in found.agreements}
    return fill(
        "judged.html.j2",
        board=board,
        answer=list(answer(board, found)),
        heads=HEADS,
        few=FEW,
        blocks=blocks,
        overview=_overview(board, found, blocks) if len(blocks) > 1 else [],
        sections=[
            {
                "dataset": dataset,
                "model": model,
                "rows": [_row(board, row) for row in _of(found, dataset, model)],
                "notes": list(_notes(board, _of(found, dataset, model))),
                "matrix": _matrix(board, agreements[dataset, model]),
            }
            for dataset, model in blocks
        ],
    )


def _of(found: Judgement, dataset: str, model: str) -> list[Row]:
    return [row for row in found.rows if (row.dataset, row.model) == (dataset, model)]


def answer(board: Board, found: Judgement) -> Iterator[str]:
    """Yields which metrics to trust in words, the first sentence first."""
    columns = list(dict.fromkeys(row.column for row in found.rows))
    words = {column: {row.verdict.word for row in found.rows if row.column == column} for column in columns}
    several = len({(row.dataset, row.model) for row in found.rows}) > 1
    where = " on every model and data set" if several else ""
    trusted = [column for column in columns if words[column] == {TRUST}]
    sometimes = [column for column in columns if TRUST in words[column] and words[column] != {TRUST}]
    barred = [column for column in columns if words[column] == {BARRED}]
    if trusted:
        yield f"Trust {_told(board, trusted)}: here they pass every test{where}."
    elif any(OPEN in own for own in words.values()):
        yield "This run cannot say which metric to trust: it lacks controls; `attrlab run judge` has them all."
    else:
        yield f"No metric passes every test{where}."
    if sometimes:
        yield f"On some, not all: {_told(board, sometimes)}; look below."
    if barred:
        yield f"Do not use {_told(board, barred)} here."


def _told(board: Board, columns: Sequence[Column]) -> str:
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    return names(board, columns[:_NAMED]) + more


def _overview(board: Board, found: Judgement, blocks: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Returns the verdicts and diagnosticities by metric, one per model and data set."""
    by_place = {(row.column, row.dataset, row.model): row for row in found.rows}
    return [
        {
            "name": column.metric,
            "setting": setting(board, column),
            "cells": [
                (STYLES[row.verdict.word], row.verdict.word, _number(row.readings.diagnosticity)[0])
                if (row := by_place.get((column, *block)))
                else None
                for block in blocks
            ],
        }
        for column in dict.fromkeys(row.column for row in found.rows)
    ]


def _row(board: Board, row: Row) -> dict[str, Any]:
    titles = {
        "diagnosticity": f"compared with: {row.null}",
        "ceiling": row.oracle or "",
        "place": f"best: {row.best}",
    }
    return {
        "name": row.column.metric,
        "setting": setting(board, row.column),
        "arrow": arrow(board, row.column),
        "word": row.verdict.word,
        "style": STYLES[row.verdict.word],
        "reasons": row.verdict.reasons,
        "forwards": row.forwards,
        "cells": [_cell(row, name, titles.get(name, "")) for name, _, _ in HEADS],
    }


def _cell(row: Row, name: str, title: str) -> Cell:
    found: Reading = getattr(row.readings, name)
    if found.value is None:
        return Cell("", (), "", found.reason or "")
    text, interval = _number(found, own=name in OWN_UNITS)
    more = []
    if name in BELOW:
        other, _, sign = BELOW[name]
        more = [sign + value for value in _number(getattr(row.readings, other))[:1] if value]
    title = f"{title}; n {found.n}".removeprefix("; ")
    return Cell(text, tuple(filter(None, [interval, *more])), f"{found.value:.6g}", title)


def _number(found: Reading, *, own: bool = False) -> tuple[str, str]:
    """Returns a number and its interval as text, with two decimals unless it is in the metric's own units."""
    if found.value is None:
        return "", ""
    known = [value for value in (found.value, found.low, found.high) if value is not None]
    texts = numbers(known) if own else [f"{round(value, 2) + 0.0:.2f}" for value in known]
    value, *ends = (text.translate(_MINUS) for text in texts)
    return value, f"[{', '.join(ends)}]" if len(ends) > 1 else ""


def _notes(board: Board, rows: Sequence[Row]) -> Iterator[str]:
    """Yields what was not measured and why, and what real methods were compared with, columns together."""
    heads = {name: head for name, head, _ in [*HEADS, *BELOW.values()]}
    absent: dict[tuple[str, str], list[Column]] = {}
    for row in rows:
        for name, reason in row.readings.absent().items():
            absent.setdefault((heads[name], reason), []).append(row.column)
    merged: dict[tuple[str, tuple[Column, ...]], list[str]] = {}
    for (head, reason), columns in absent.items():
        merged.setdefault((reason, tuple(columns)), []).append(head)
    for (reason, own), named in merged.items():
        which = "all metrics" if len(own) == len(rows) else names(board, own)
        yield f"{', '.join(named)} not measured: {reason} ({which})"
    nulls: dict[str, list[Column]] = {}
    for row in rows:
        nulls.setdefault(row.null, []).append(row.column)
    for null, columns in nulls.items():
        which = "all metrics" if len(columns) == len(rows) else names(board, columns)
        yield f"diagnosticity compares each real method with {null} ({which})"


def _matrix(board: Board, found: Agreement) -> dict[str, Any] | None:
    """Returns what is drawn of an agreement matrix, lower half; None below two metrics."""
    size = len(found.columns)
    if size < 2:
        return None
    shades: dict[tuple[str, int], list[str]] = {}
    texts = []
    for i, j in zip(*(part.tolist() for part in np.tril_indices(size)), strict=True):
        tau, x, y = float(found.taus[i, j]), MARGIN[0] + j * CELL[0], MARGIN[1] + i * CELL[1]
        if np.isnan(tau):
            continue
        shade = round(abs(tau) * _SHADES)
        if shade:
            shades.setdefault(("pos" if tau > 0 else "neg", shade), []).append(f"M{x} {y}h26v18h-26z")
        texts.append((x + 13, y + 13, _tau(tau)))
    labels = [heading(board, column) for column in found.columns]
    return {
        "width": MARGIN[0] + size * CELL[0] + 2,
        "height": MARGIN[1] + size * CELL[1] + 2,
        "shades": [(sign, round(0.75 * shade / _SHADES, 2), "".join(d)) for (sign, shade), d in shades.items()],
        "texts": texts,
        "rows": [(MARGIN[0] - 8, MARGIN[1] + i * CELL[1] + 13, f"{label} {i + 1}") for i, label in enumerate(labels)],
        "columns": [(MARGIN[0] + i * CELL[0] + 13, MARGIN[1] - 7, i + 1) for i in range(size)],
        "label": f"Kendall's tau between {size} metrics over {found.methods} methods: {', '.join(labels)}",
        "methods": found.methods,
    }


def _tau(tau: float) -> str:
    """Returns a correlation with two decimals and no zero in front.

    >>> [_tau(tau) for tau in (1.0, 0.456, 0.001)]
    ['1', '.46', '0']
    """
    text = f"{tau:.2f}".replace("0.", ".").translate(_MINUS)
    return {"1.00": "1", "\N{MINUS SIGN}1.00": "\N{MINUS SIGN}1", ".00": "0", "\N{MINUS SIGN}.00": "0"}.get(text, text)
