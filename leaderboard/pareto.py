"""Quality against cost: which methods no other beats at lower or equal cost (metrics spec 11)."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from attrlab.bench.types import Bools, Floats
from attrlab.leaderboard.board import Cell, Column
from attrlab.leaderboard.statistics import Aggregate
from attrlab.leaderboard.tables import Table, families

FAMILIES = ("faithfulness", "agreement", "plausibility", "ground truth")
"""Families of metrics that say how good an explanation is."""

PANELS = 6
"""Columns drawn at most."""

COVERAGE = 0.9
"""Share of the most examples that any method has values for, below which a method is not compared: its mean is over
other, often easier examples."""


def front(costs: Floats, values: Floats, higher_is_better: bool) -> Bools:
    """Returns which points no other dominates: none is at least as good and as cheap, and better or cheaper.

    Exact ties share the front. A point with NaN is neither on it nor dominates another.

    Args:
        costs: Lower is better, ``(n,)``.
        values: Quality of the same points, ``(n,)``.
        higher_is_better: Direction of ``values``.
    """
    gains = values if higher_is_better else -values
    as_good = (gains >= gains[:, None]) & (costs <= costs[:, None])
    ahead = (gains > gains[:, None]) | (costs < costs[:, None])
    known: Bools = ~(np.isnan(costs) | np.isnan(values))
    return known & ~(as_good & ahead).any(axis=1)


def passes(cell: Cell) -> float | None:
    """Returns the mean ``F + 2 B`` of an explanation, None where it was not counted (metrics spec 11)."""
    rows = [row for row in cell.attributions if row.status == "ok"]
    costs = [row.forwards + 2 * row.backwards for row in rows if row.forwards is not None and row.backwards is not None]
    return float(np.mean(costs)) if costs and len(costs) == len(rows) else None


@dataclass(frozen=True, slots=True)
class Point:
    """One method in one column.

    Attributes:
        found: Its mean and interval.
        cost: Passes of one explanation.
        compared: It has values for as many examples as the others, nearly.
        leads: It is on the front.
    """

    found: Aggregate
    cost: float
    compared: bool
    leads: bool


def points(table: Table, column: Column, costs: Mapping[str, float]) -> list[Point]:
    """Returns the methods that have a mean in a column and a counted cost, in the order of the table.

    Controls but the floor are drawn and neither lead nor beat others: an oracle that searches for the metric is no
    explanation.
    """
    cells = [table.cell(method.name, column) for method in table.methods if method.name in costs]
    cells = [found for found in cells if found.mean is not None]
    most = max((found.n_scored for found in cells), default=0)
    compared = [found.n_scored >= COVERAGE * most for found in cells]
    controls = {method.name for method in table.methods if method.family == "control"} - {table.floor}
    spent = np.array(
        [
            costs[found.method] if fair and found.method not in controls else math.nan
            for found, fair in zip(cells, compared, strict=True)
        ]
    )
    values = np.array([found.mean for found in cells], dtype=np.float64)
    leads = front(spent, values, bool(table.board.metric(column.metric).higher_is_better))
    return [
        Point(found, costs[found.method], fair, bool(lead))
        for found, fair, lead in zip(cells, compared, leads, strict=True)
    ]


def panels(table: Table, costs: Mapping[str, float]) -> dict[Column, list[Point]]:
    """Returns the points of every column that says how good an explanation is and has any, families together."""
    found = {
        column: points(table, column, costs)
        for family, members in families(table.board, table.columns)
        for column in members
        if family in FAMILIES and table.board.metric(column.metric).higher_is_better is not None
    }
    return {column: several for column, several in found.items() if several}


def chosen(table: Table, columns: Iterable[Column]) -> list[Column]:
    """Returns at most :data:`PANELS` columns, families in turn and every metric once before any a second time."""
    columns = list(columns)
    repeats: Counter[str] = Counter()
    turns: Counter[tuple[str, int]] = Counter()
    places = {}
    for column in columns:
        turn = table.board.metric(column.metric).family, repeats[column.metric]
        places[column] = repeats[column.metric], turns[turn]
        repeats[column.metric] += 1
        turns[turn] += 1
    first = sorted(columns, key=places.__getitem__)[:PANELS]
    return [column for column in columns if column in first]
