"""What every rendering shows: one table per data set and model, its numbers, and what has no value and why."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from attrlab.leaderboard.board import Board, Column, DatasetCard, MethodCard, ModelCard
from attrlab.leaderboard.comparisons import detectable
from attrlab.leaderboard.groups import Standing, ranked
from attrlab.leaderboard.statistics import Aggregate, aggregate, verdict
from attrlab.leaderboard.strata import Strata, stratified


@dataclass(frozen=True, slots=True)
class Problem:
    """Values that are absent for one reason: in which columns, for which methods."""

    status: str
    reason: str
    methods: tuple[str, ...]
    columns: tuple[Column, ...]


class Table:
    """One model on one data set: the methods (floor first) by the columns that say anything here.

    Attributes:
        board: The board.
        dataset: The data set part.
        model: The model.
        methods: The rows.
        columns: The columns; one that is skipped for the same reason by every method is left out.
        absent: The columns left out, by that reason.
        floor: Name of the random method if it was run here.
    """

    def __init__(self, board: Board, dataset: DatasetCard, model: ModelCard, cells: dict[Any, Aggregate]) -> None:
        self.board, self.dataset, self.model = board, dataset, model
        self._cells = cells
        ran = {method for method, _ in cells}
        self.methods: tuple[MethodCard, ...] = tuple(card for card in board.ordered_methods() if card.name in ran)
        self.floor = board.floor if board.floor in ran else None
        self.columns: list[Column] = []
        self.absent: dict[str, list[Column]] = {}
        for column in dict.fromkeys(column for _, column in cells):
            outcomes = {(found.status, found.reason or "") for (_, other), found in cells.items() if other == column}
            status, reason = outcomes.pop()
            if status == "skipped" and not outcomes:
                self.absent.setdefault(reason, []).append(column)
            else:
                self.columns.append(column)

    def cell(self, method: str, column: Column) -> Aggregate:
        """Returns one cell."""
        return self._cells[method, column]

    def cells(self) -> Iterator[Aggregate]:
        """Yields every cell, those of the columns left out too."""
        yield from self._cells.values()

    def verdict(self, found: Aggregate) -> str | None:
        """Returns ``better`` or ``worse`` than random, ``unclear``, or None where that is no question.

        It is none for costs: drawing numbers is always cheap.
        """
        metric = self.board.metric(found.column.metric)
        if self.floor in (None, found.method) or metric.family == "cost":
            return None
        return verdict(found, self._cells[self.floor, found.column], metric.higher_is_better)

    def standing(self, method: str, column: Column) -> Standing | None:
        """Returns where a method stands in a column; None without a value of every example that any method has."""
        return ranked(self.board).get((self.model.name, self.dataset.name, method, column))

    def strata(self, method: str, column: Column) -> Strata:
        """Returns the means of one cell by predicted class and by whether the model was right."""
        return stratified(self.board).get((self.model.name, self.dataset.name, method, column), Strata())

    def entry(self, method: str, column: Column) -> str:
        """Returns a cell in words, as in ``0.512 [0.456, 0.568]; 1-3 ab``."""
        standing = self.standing(method, column)
        return interval(self.cell(method, column)) + (f"; {standing.range} {standing.letters}" if standing else "")

    def effects(self) -> str:
        """Returns the smallest effect that one test finds at each number of examples, as in ``0.284 at n = 100``."""
        ns = {self.cell(method.name, column).n_scored for method in self.methods for column in self.columns}
        return ", ".join(f"{detectable(n):.3g} at n = {n}" for n in sorted(ns, reverse=True) if n > 2)

    def problems(self) -> list[Problem]:
        """Returns what has no value, methods with the same gaps together."""
        gaps: dict[tuple[str, str, str], list[Column]] = {}
        for method in self.methods:
            for column in self.columns:
                found = self.cell(method.name, column)
                if found.reason is not None:
                    gaps.setdefault((found.status, found.reason, method.name), []).append(column)
        merged: dict[tuple[str, str, tuple[Column, ...]], list[str]] = {}
        for (status, reason, name), columns in gaps.items():
            merged.setdefault((status, reason, tuple(columns)), []).append(name)
        return [Problem(status, reason, tuple(names), columns) for (status, reason, columns), names in merged.items()]

    def notes(self) -> Iterator[str]:
        """Yields one line, not escaped, for everything that has no value."""
        for reason, columns in self.absent.items():
            yield f"{names(self.board, columns)}: {reason}"
        for problem in self.problems():
            every = len(problem.methods) == len(self.methods)
            rows = "all methods" if every else ", ".join(problem.methods)
            every = len(problem.columns) == len(self.columns)
            columns_ = "all columns" if every else names(self.board, problem.columns)
            state = "" if problem.status == "ok" else f"{problem.status}, "
            yield f"{columns_}: {state}{problem.reason} ({rows})"


def tables(board: Board, timings: bool = True) -> list[Table]:
    """Returns one table per data set and model that was run."""
    shown = {board.columns[i] for i in board.shown(timings)}
    blocks: dict[tuple[str, str], dict[Any, Aggregate]] = {}
    for found in aggregate(board):
        if found.column in shown:
            blocks.setdefault((found.dataset, found.model), {})[found.method, found.column] = found
    return [
        Table(board, dataset, model, blocks[dataset.name, model.name])
        for dataset, models in board.blocks()
        for model in models
        if (dataset.name, model.name) in blocks
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One method in one column over the models of a data set: no ranking, only counts and a plain average.

    Attributes:
        average: Plain average of the models' means, None if there are none.
        n_models: Models with a mean.
        compared: Models in which both the method and the floor have an interval.
        better: Models in which the method beats the floor with a disjoint interval.
        worse: Models in which the floor beats the method so.
    """

    average: float | None
    n_models: int
    compared: int
    better: int
    worse: int


def summarise(found: Iterable[Table]) -> dict[tuple[str, str, Column], Summary]:
    """Returns the summary over the tables (models) for each data set, method and column."""
    cells: dict[tuple[str, str, Column], list[tuple[Table, Aggregate]]] = {}
    for table in found:
        for cell in table.cells():
            cells.setdefault((cell.dataset, cell.method, cell.column), []).append((table, cell))
    return {key: _summary(several) for key, several in cells.items()}


def _summary(several: Sequence[tuple[Table, Aggregate]]) -> Summary:
    means = [cell.mean for _, cell in several if cell.mean is not None]
    verdicts = [table.verdict(cell) for table, cell in several]
    return Summary(
        average=float(np.mean(means)) if means else None,
        n_models=len(means),
        compared=len(verdicts) - verdicts.count(None),
        better=verdicts.count("better"),
        worse=verdicts.count("worse"),
    )


def families(board: Board, columns: Sequence[Column]) -> list[tuple[str, list[Column]]]:
    """Returns the columns by family of metric, in order of first appearance."""
    family = {column: board.metric(column.metric).family for column in columns}
    order = list(dict.fromkeys(family.values()))
    ranked = sorted(columns, key=lambda column: order.index(family[column]))
    return [(name, list(group)) for name, group in groupby(ranked, key=family.__getitem__)]


def numbers(values: Sequence[float]) -> list[str]:
    """Returns numbers that are read together, with as many decimals as the largest needs for three digits or so.

    >>> numbers([0.1234]), numbers([-12.345]), numbers([1234.5]), numbers([0.00012]), numbers([0.0])
    (['0.123'], ['-12.3'], ['1,234'], ['1.2e-04'], ['0.000'])
    >>> numbers([0.2, -1e-7, 0.4]), numbers([8.375, 6.75, 10.0]), numbers([200.0, 200.0, 200.0])
    (['0.200', '0.000', '0.400'], ['8.4', '6.8', '10.0'], ['200', '200', '200'])
    """
    size = max(abs(value) for value in values)
    if 0 < size < 0.0005:
        return [f"{value:.1e}" for value in values]
    whole = size >= 10 and all(value == round(value) for value in values)
    decimals = 0 if whole or size >= 999.95 else 1 if size >= 9.9995 else 4 if 0 < size < 0.0095 else 3
    # Adding zero turns -0.0 into 0.0: a rounded value has no sign left.
    return [f"{round(value, decimals) + 0.0:,.{decimals}f}" for value in values]


def shown(found: Aggregate) -> tuple[str, str]:
    """Returns the mean and its interval in brackets; empty texts where there is none."""
    if found.mean is None:
        return "", ""
    if found.ci_low is None or found.ci_high is None:
        return numbers([found.mean])[0], ""
    mean, low, high = numbers([found.mean, found.ci_low, found.ci_high])
    return mean, f"[{low}, {high}]"


def arrow(board: Board, column: Column) -> str:
    """Returns the direction of a column as an arrow; empty for a metric that only describes."""
    return {True: "↑", False: "↓", None: ""}[board.metric(column.metric).higher_is_better]


def setting(board: Board, column: Column) -> str:
    """Returns the operator of a column, and its unit where a board has several."""
    several = len({other.unit for other in board.columns}) > 1
    return ", ".join(part for part in (column.operator, column.unit if several else None) if part)


def heading(board: Board, column: Column) -> str:
    """Returns the name of a column, as in ``sufficiency (delete)``."""
    return names(board, [column])


def names(board: Board, columns: Sequence[Column]) -> str:
    """Returns the names of columns, as in ``sufficiency (delete, replace), auprc``."""
    settings: dict[str, list[str]] = {}
    for column in columns:
        settings.setdefault(column.metric, []).append(setting(board, column))
    return ", ".join(
        f"{metric} ({', '.join(filter(None, found))})" if any(found) else metric for metric, found in settings.items()
    )


def shifts(table: Table) -> str:
    """Returns what share of inputs each operator takes off the training texts, as in ``delete 7 %, replace 9 %``.

    Reasons why a share is not known follow; empty where nothing was computed.
    """
    block = (table.model.name, table.dataset.name)
    own = [one for one in table.board.shifts if (one.model, one.dataset) == block]
    told = ", ".join(f"{one.operator} {100 * one.share:.0f} %" for one in own if one.share is not None)
    why: dict[str, list[str]] = {}
    for one in own:
        if one.reason is not None:
            why.setdefault(one.reason, []).append(one.operator)
    return "; ".join(filter(None, [told, *(f"{', '.join(names)}: {reason}" for reason, names in why.items())]))


def interval(found: Aggregate) -> str:
    """Returns mean and interval, and n where examples are missing; the status where there is no mean."""
    mean, ends = shown(found)
    few = f"(n={found.n_scored})" if found.n_scored < found.n_total else ""
    return " ".join(part for part in (mean, ends, few) if part) if mean else found.status
