"""Where everything lies in the drawings of quality against cost; ``page/`` says how it looks."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from attrlab.leaderboard.board import Cell, Column
from attrlab.leaderboard.pareto import Point, chosen, panels, passes
from attrlab.leaderboard.statistics import Aggregate
from attrlab.leaderboard.tables import Table, arrow, heading, names, shown

WIDTH, HEIGHT = 340, 216
"""Size of one panel in the drawing's own unit, about a pixel."""

LEFT, RIGHT, TOP, BOTTOM = 48, 330, 20, 180
"""Edges of the area of the points."""

ZERO, START = 62, 92
"""Where cost 0 stands, and where the logarithmic axis starts."""

_NUMBER = (13, 10)  # how far two numbers must be apart, across and down, to be read
_MINUS = str.maketrans("-", "\N{MINUS SIGN}")


def figure(table: Table, cells: Iterable[Cell]) -> dict[str, Any] | None:
    """Returns what the page draws of one model on one data set, None if there is nothing to draw.

    Args:
        table: The means of this model on this data set.
        cells: The stored cells of the same block, whose rows say what was counted.
    """
    counted = {cell.method: passes(cell) for cell in cells}
    costs = {method: cost for method, cost in counted.items() if cost is not None}
    found = panels(table, costs)
    if not found:
        return None
    drawn = chosen(table, found)
    scored = {method.name for method in table.methods for column in found if table.cell(method.name, column).n_scored}
    return {
        "size": (WIDTH, HEIGHT),
        "edges": (LEFT, RIGHT, TOP, BOTTOM),
        "break": (ZERO + START) / 2 - 4,
        "panels": [_Panel(table, column, found[column], costs.values()).view() for column in drawn],
        "few": sorted({point.found.method for column in drawn for point in found[column] if not point.compared}),
        "hidden": names(table.board, [column for column in found if column not in drawn]),
        "uncounted": [method.name for method in table.methods if method.name in scored - set(costs)],
    }


class _Panel:
    """One column: the axis of costs is logarithmic with 0 apart, and up is better whatever the direction."""

    def __init__(self, table: Table, column: Column, found: Sequence[Point], costs: Iterable[float]) -> None:
        self.board, self.column = table.board, column
        self.floor = table.cell(table.floor, column) if table.floor else None
        self.front = sorted((point for point in found if point.leads), key=lambda point: point.cost)
        self.others = [point for point in found if not point.leads]
        powers = [math.log10(cost) for cost in costs if cost > 0] or [0.0]
        self.first = math.floor(min(powers))
        self.last = max(math.ceil(max(powers)), self.first + 1)
        cells = [point.found for point in found] + ([self.floor] if self.floor else [])
        ends = [end for cell in cells for end in (cell.mean, cell.ci_low, cell.ci_high) if end is not None]
        room = 0.04 * (max(ends) - min(ends) or abs(ends[0]) or 1.0)
        self.low, self.high = min(ends) - room, max(ends) + room

    def x(self, cost: float) -> float:
        """Returns how far right a cost lies."""
        if cost <= 0:
            return ZERO
        return round(START + (RIGHT - START) * (math.log10(cost) - self.first) / (self.last - self.first), 1)

    def y(self, value: float) -> float:
        """Returns how far down a value lies."""
        share = (value - self.low) / (self.high - self.low)
        better = share if self.board.metric(self.column.metric).higher_is_better else 1 - share
        return round(BOTTOM - (BOTTOM - TOP) * better, 1)

    def view(self) -> dict[str, Any]:
        """Returns what the template fills in."""
        name = heading(self.board, self.column)
        powers = range(self.first, self.last + 1)
        return {
            "name": name,
            "arrow": arrow(self.board, self.column),
            "label": f"{name} against passes; on the front, cheapest first: "
            + ", ".join(point.found.method for point in self.front),
            "levels": [(self.y(level), f"{level:g}".translate(_MINUS)) for level in ticks(self.low, self.high)],
            "costs": [(ZERO, "0"), *((self.x(10.0**power), _power(power)) for power in powers)],
            "band": self._interval(self.floor),
            "path": self._path(),
            "dots": [self._dot(point) for point in self.others],
            "front": [
                {"number": number, "at": at, **self._dot(point)}
                for number, (point, at) in enumerate(zip(self.front, self._numbers(), strict=True), 1)
            ],
        }

    def _interval(self, found: Aggregate | None) -> tuple[float, float] | None:
        """Returns the upper and the lower end of an interval in the drawing."""
        if found is None or found.ci_low is None or found.ci_high is None:
            return None
        upper, lower = sorted((self.y(found.ci_low), self.y(found.ci_high)))
        return upper, lower

    def _dot(self, point: Point) -> dict[str, Any]:
        mean, ends = (text.translate(_MINUS) for text in shown(point.found))
        cost = f"{count(point.cost)} {'pass' if point.cost == 1 else 'passes'}"
        few = "" if point.compared else f", on {point.found.n_scored} examples only"
        return {
            "x": self.x(point.cost),
            "y": self.y(_mean(point)),
            "interval": self._interval(point.found),
            "compared": point.compared,
            "method": point.found.method,
            "mean": mean,
            "cost": cost,
            "title": f"{point.found.method}: {f'{mean} {ends}'.strip()}, {cost}{few}",
        }

    def _path(self) -> str:
        """Returns the best mean that can be had up to each cost, as steps to the right end."""
        start, *rest = [(self.x(point.cost), self.y(_mean(point))) for point in self.front]
        return f"M{start[0]} {start[1]}" + "".join(f"H{x}V{y}" for x, y in rest) + f"H{RIGHT}"

    def _numbers(self) -> list[tuple[float, float]]:
        """Returns where the points' numbers stand: up left, where the front leaves room, above one in the way."""
        places: list[tuple[float, float]] = []
        for point in self.front:
            x, y = self.x(point.cost) - 5, self.y(_mean(point)) - 5
            if places and x - places[-1][0] < _NUMBER[0]:
                y = min(y, places[-1][1] - _NUMBER[1])
            places.append((round(x, 1), round(y, 1)))
        return places


def _mean(point: Point) -> float:
    assert point.found.mean is not None  # what has no mean is no point
    return point.found.mean


def ticks(low: float, high: float) -> list[float]:
    """Returns three to eight round numbers within a range.

    >>> ticks(-0.03, 0.52), ticks(12.0, 88.0)
    ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [20.0, 40.0, 60.0, 80.0])
    """
    size = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = next((times * size for times in (5, 2) if times * size <= (high - low) / 3), size)
    return [float(f"{i * step:.6g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _power(power: int) -> str:
    """Returns a power of ten.

    >>> [_power(power) for power in (-1, 0, 2, 3, 5, 6)]
    ['0.1', '1', '100', '1k', '100k', '1M']
    """
    for least, letter in ((9, "B"), (6, "M"), (3, "k")):
        if power >= least:
            return f"{10 ** (power - least)}{letter}"
    return f"{10.0**power:g}"


def count(cost: float) -> str:
    """Returns a mean number of passes.

    >>> [count(cost) for cost in (0.0, 0.0412, 3.0, 19.14, 435.3, 12_345.6)]
    ['0', '0.041', '3', '19.1', '435', '12,346']
    """
    if cost == round(cost) or cost >= 99.95:
        return f"{cost:,.0f}"
    return f"{cost:.1f}" if cost >= 1 else f"{cost:.2g}"
