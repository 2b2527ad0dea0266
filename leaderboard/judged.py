"""Which metric can be trusted on this model and data: what each makes of explanations whose order is known.

Per metric, removal operator, model and data set (metrics spec 12.6). What the run lacks for a reading is said in its
place; nothing is assumed.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isnan

import numpy as np

from attrlab.bench.types import Floats
from attrlab.leaderboard.board import Board, Cell, Column
from attrlab.leaderboard.groups import ranks_methods
from attrlab.leaderboard.judged_ranks import (
    FEWEST_EXAMPLES,
    FEWEST_METHODS,
    clustered,
    gain,
    kendall,
    merits,
    outcomes,
    reliability,
)
from attrlab.leaderboard.judged_readings import means, null_of, place, reading, told_apart, told_apart_by_few
from attrlab.leaderboard.judged_scores import (
    Scores,
    cast,
    diagnosticity,
    mean,
    operator_of,
    oracle,
)
from attrlab.leaderboard.judged_verdict import (
    DIAGNOSTIC,
    DIVIDED,
    TRUST,
    WEAK,
    Reading,
    Readings,
    Verdict,
    divided,
    judged,
)
from attrlab.leaderboard.statistics import MISSING, brief

FAMILIES = frozenset({"faithfulness", "agreement", "plausibility", "ground truth", "human", "plug-in"})
"""Families whose metrics claim that a real explanation scores better than none; a constant one is perfectly stable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is known of one metric under one operator, on one model and data set.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set part.
        column: Metric, operator and unit.
        readings: The numbers; see :class:`~attrlab.leaderboard.judged_verdict.Readings`.
        verdict: Whether to trust it, and why not.
        null: What real methods were compared with, in words.
        best: Real method with the best mean on what the oracle and random scored, too; None without those.
        oracle: Name of the greedy oracle, or None.
        forwards: Questions that the metric asks per example, a formula.
    """

    model: str
    dataset: str
    column: Column
    readings: Readings
    verdict: Verdict
    null: str
    best: str | None
    oracle: str | None
    forwards: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agreement:
    """How alike metrics order the real methods of one model on one data set, like next to like.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set part.
        columns: The columns, in clustered order.
        taus: Kendall's tau-b of every two, NaN where it is not defined.
        methods: Number of methods that are ordered.
    """

    model: str
    dataset: str
    columns: tuple[Column, ...]
    taus: Floats
    methods: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All metrics of a run, and the agreement between those of each model and data set."""

    rows: tuple[Row, ...]
    agreements: tuple[Agreement, ...]


def trusted(board: Board) -> frozenset[Column]:
    """Returns the columns that may be aggregated over methods, models or metrics (metrics spec 12.6).

    All columns of the board but those of a mean diagnosticity over models and data sets below 0.6; a column of which
    it is not known stays. Cheap: nothing else of :func:`judge` is computed.
    """
    low = {column for column, values in _diagnosticities(board).items() if np.mean(values) < DIAGNOSTIC}
    return frozenset(board.columns) - low


def judged_at_all(board: Board) -> bool:
    """Returns whether the run has what any metric can be judged by: explanations that should beat others."""
    return bool(_diagnosticities(board))


@lru_cache(maxsize=1)
def _diagnosticities(board: Board) -> dict[Column, list[float]]:
    """Mean diagnosticity of each column, wherever it is known."""
    found: dict[Column, list[float]] = {}
    for scores in (scores for block in _blocks(board) for scores in block):
        value = float(mean(diagnosticity(scores, cast(board)), axis=0))
        if not isnan(value):
            found.setdefault(scores.column, []).append(value)
    return found


@lru_cache(maxsize=1)
def judge(board: Board) -> Judgement:
    """Returns what is known of every metric that orders explanations by how good they are.

    The last board's is kept: page, marks and aggregates read the same.
    """
    blocks = [_Block(board, columns) for columns in _blocks(board)]
    return Judgement(
        rows=tuple(row for block in blocks for row in _reconciled(list(block.rows()))),
        agreements=tuple(block.agreement() for block in blocks),
    )


def _blocks(board: Board) -> Iterator[list[Scores]]:
    """Yields the columns that have any score, by model and data set; none if no method could be right."""
    if not cast(board).real:
        return
    for dataset in board.datasets:
        for model in dict.fromkeys(model.name for model in board.models if model.dataset == dataset.name):
            cells = [cell for cell in board.cells if (cell.model, cell.dataset) == (model, dataset.name)]
            found = [scores for scores in _columns(board, cells) if not np.isnan(scores.values).all()]
            if found:
                yield found


def _reconciled(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows of a block, those no longer trusted that pass under several operators and order otherwise."""
    passing = Counter(row.column.metric for row in rows if row.verdict.word == TRUST)
    split = Verdict(word=WEAK, reasons=(DIVIDED,))
    return [
        replace(row, verdict=split) if divided(row.verdict.word, row.readings, passing[row.column.metric]) else row
        for row in rows
    ]


def _columns(board: Board, cells: Sequence[Cell]) -> Iterator[Scores]:
    for index, column in enumerate(board.columns):
        metric = board.metric(column.metric)
        if not ranks_methods(metric) or metric.family not in FAMILIES:
            continue
        ran = {cell.method: cell.scores[index] for cell in cells if cell.reason is None}
        own = {name: one for name, one in ran.items() if one.complete and one.reason is None}
        examples = tuple(dict.fromkeys(example for one in own.values() for example in one.examples))
        rows = {example: row for row, example in enumerate(examples)}
        silent = {name: one for name, one in own.items() if np.isnan(one.values).all()}
        sign = 1 if metric.higher_is_better else -1
        values = np.full((len(examples), len(own)), np.nan)
        for at, one in enumerate(own.values()):
            values[[rows[example] for example in one.examples], at] = sign * one.values
        yield Scores(
            model=cells[0].model,
            dataset=cells[0].dataset,
            column=column,
            sign=sign,
            methods=tuple(own),
            examples=examples,
            values=values,
            skipped={cell.method: brief(cell.reason) for cell in cells if cell.reason is not None}
            | {name: brief(one.reason or MISSING) for name, one in ran.items() if name not in own}
            | {name: brief(next(filter(None, one.reasons), "no examples")) for name, one in silent.items()},
        )


class _Block:
    """The columns of one model on one data set."""

    def __init__(self, board: Board, columns: Sequence[Scores]) -> None:
        self.board, self.columns, self.parts = board, columns, cast(board)
        real = self.parts.real
        self.won = [outcomes(scores, real) for scores in columns]
        everything = [np.ones((1, len(scores.examples))) for scores in columns]
        table = [merits(won, ones)[0] for won, ones in zip(self.won, everything, strict=True)]
        self.taus = kendall(np.stack(table))

    def agreement(self) -> Agreement:
        order = clustered(self.taus)
        return Agreement(
            model=self.columns[0].model,
            dataset=self.columns[0].dataset,
            columns=tuple(self.columns[i].column for i in order),
            taus=self.taus[np.ix_(order, order)],
            methods=len({name for scores in self.columns for name in scores.among(self.parts.real)}),
        )

    def rows(self) -> Iterator[Row]:
        for index, scores in enumerate(self.columns):
            best, where = place(scores, self.parts, oracle(self.board, scores.column))
            readings = Readings(
                **means(scores, self.parts, oracle(self.board, scores.column)),
                place=where,
                reliability=self._reliability(index),
                separated=told_apart(scores, self.parts),
                separated_few=told_apart_by_few(scores, self.parts),
                operators=self._operators(index),
                gain=self._gain(index),
            )
            yield Row(
                model=scores.model,
                dataset=scores.dataset,
                column=scores.column,
                readings=readings,
                verdict=judged(readings),
                null=null_of(scores, self.parts),
                best=best,
                oracle=oracle(self.board, scores.column),
                forwards=self.board.metric(scores.column.metric).forwards,
            )

    def _reliability(self, index: int) -> Reading:
        known = [(~np.isnan(self.columns[index].of(name))).sum() for name in self.parts.real]
        # A method that hardly ever has a score would be missing from most halves.
        ran = [i for i, n in enumerate(known) if 2 * n >= max(known) > 0]
        won = self.won[index][:, ran][:, :, ran]
        value = reliability(won)
        if isnan(value):
            return Reading(reason=f"fewer than {FEWEST_METHODS} real methods or {FEWEST_EXAMPLES} examples to compare")
        return Reading(value=value, n=len(won))

    def _same_metric(self, index: int) -> list[int]:
        own = self.columns[index].column
        return [
            i
            for i, scores in enumerate(self.columns)
            if scores.column.metric == own.metric and scores.column.operator != own.operator
        ]

    def _operators(self, index: int) -> Reading:
        others = self._same_metric(index)
        if not others:
            return Reading(reason="the run has it under one operator only")
        found = self.taus[index, others]
        if np.isnan(found).all():
            return Reading(reason=f"fewer than {FEWEST_METHODS} real methods, or all tie")
        return Reading(value=float(mean(found, axis=0)), n=len(others))

    def _gain(self, index: int) -> Reading:
        scores = self.columns[index]
        others = [i for i in self._same_metric(index) if self.columns[i].examples == scores.examples]
        if not others:
            return Reading(reason="the run has it under one operator only")
        asked = {card.name: operator_of(self.board, card) for card in self.board.methods}
        ran = [i for i, name in enumerate(self.parts.real) if scores.has(name)]
        matching = np.array([asked[self.parts.real[i]] == scores.column.operator for i in ran], dtype=bool)
        if matching.all() or not matching.any():
            which = "no" if not matching.any() else "every"
            return Reading(reason=f"{which} real method of the run asks under {scores.column.operator}")
        own, *rest = (self.won[i][:, ran][:, :, ran] for i in [index, *others])
        value, low, high = gain(own, rest, matching)
        return reading(value, low, high, len(own))
