"""Two results folders side by side: is a method better than it was, or than another, on the same examples?

A *match* is one column of one method in the new folder beside the same column of its partner in the old one. Only
folders that measured the same thing (texts, weights, target, metrics) have any.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np

from attrlab.bench.errors import UserError, unknown
from attrlab.bench.types import Floats
from attrlab.leaderboard.board import Board, Cell, Column, ColumnScores, MetricCard
from attrlab.leaderboard.comparable import both, check, names
from attrlab.leaderboard.comparisons import Comparison, common, compare_all, holm
from attrlab.leaderboard.statistics import MISSING, brief

NOT_RUN = "not run"

Pair = tuple[str, str]
"""Name of a method in the new folder, and of its partner in the old one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Match:
    """The same column of a method and its partner, on one model and data set.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set part.
        methods: Name in the new folder, name in the old one.
        column: Metric, operator and unit.
        metric: Facts of the metric.
        new: Scores in the new folder; none, with a reason, where they are not all there.
        old: Scores in the old folder, likewise.
        cell: The method in the new folder, None where it was not run.
    """

    model: str
    dataset: str
    methods: Pair
    column: Column
    metric: MetricCard
    new: ColumnScores
    old: ColumnScores
    cell: Cell | None

    @property
    def method(self) -> str:
        """The method as tables show it: both names where they differ, the new one first."""
        return " = ".join(dict.fromkeys(self.methods))

    @property
    def family(self) -> tuple[str, str, Column]:
        """What is the same for all tests that are corrected together (metrics spec 12.3)."""
        return self.dataset, self.model, self.column

    def values(self) -> Floats:
        """Returns the scores, new and old, of the examples that both have one of, ``(n_examples, 2)``."""
        return common([self.new, self.old])[1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Difference:
    """How much a match changed: new less old.

    Attributes:
        match: What is compared.
        n_total: Examples that both were asked for.
        new: Mean of the new scores over the examples that both have, None if there are none.
        old: Mean of the old ones.
        found: Difference, interval, tests and effect size; no tests of what is measured on a machine.
        reason: Why no example has both scores, None if one has.
    """

    match: Match
    n_total: int
    new: float | None
    old: float | None
    found: Comparison
    reason: str | None = None

    @property
    def verdict(self) -> str:
        """One of ``better``, ``worse``, ``changed`` (no direction), ``not separable``, ``measured``, ``no value``."""
        higher = self.match.metric.higher_is_better
        if self.found.mean is None:
            return "no value"
        if self.match.metric.measured:
            return "measured"
        if not self.found.win:
            return "not separable"
        if higher is None:
            return "changed"
        return "better" if (self.found.mean > 0) == higher else "worse"


def compare(new: Board, old: Board, methods: Sequence[str] = (), metrics: Sequence[str] = ()) -> tuple[Difference, ...]:
    """Returns the difference of every match, by data set and model, then column, then method.

    Holm's correction runs over the methods of one data set, model, metric and operator (metrics spec 12.3).

    Args:
        new: What is judged.
        old: What it is compared with; may be the same board where ``methods`` pairs other names.
        methods: ``NAME`` or ``NEW=OLD``; empty for all names that both have.
        metrics: Names of metrics; empty for all that both have.

    Raises:
        UserError: If the two have nothing in common, or measured different things; says what, and what to do.
    """
    theirs = names(old.methods)
    pairs = (
        paired_methods(new, old, methods)
        if methods
        else [(name, name) for name in names(new.methods) if name in theirs]
    )
    if not pairs:
        raise UserError(f"no method in common: {both(names(new.methods), theirs)}; pair them with --method NEW=OLD")
    found = [
        _difference(match)
        for match in matches(new, old, pairs, metrics)
        if NOT_RUN not in (match.new.reason, match.old.reason)
    ]
    families: dict[object, list[Difference]] = {}
    for one in found:
        families.setdefault(one.match.family, []).append(one)
    return tuple(one for family in families.values() for one in _corrected(family))


def _difference(match: Match) -> Difference:
    values = match.values()
    found = compare_all(values)[0]
    if match.metric.measured:  # the load of a machine is no property of a method
        found = replace(found, p=None, adjusted=None, p_wilcoxon=None, p_mcnemar=None)
    why = {"new": absence(match.new), "old": absence(match.old)}
    told = "; ".join(f"{side}: {reason}" for side, reason in why.items() if reason)
    return Difference(
        match=match,
        n_total=len(set(match.new.examples) & set(match.old.examples)),
        new=float(values[:, 0].mean()) if len(values) else None,
        old=float(values[:, 1].mean()) if len(values) else None,
        found=found,
        reason=None if len(values) else told or "no example has both scores",
    )


def _corrected(family: Sequence[Difference]) -> Iterator[Difference]:
    adjusted = holm([nan if one.found.p is None else one.found.p for one in family]).tolist()
    for one, p in zip(family, adjusted, strict=True):
        yield one if one.found.p is None else replace(one, found=replace(one.found, adjusted=p))


def absence(scores: ColumnScores) -> str | None:
    """Returns why a column has no value on any example, None if it has one."""
    if scores.reason is not None:
        return brief(scores.reason)
    if not np.isnan(scores.values).all():
        return None
    told = Counter(reason for reason in scores.reasons if reason)
    return brief(told.most_common(1)[0][0]) if told else "no examples"


def paired_methods(new: Board, old: Board, given: Sequence[str]) -> list[Pair]:
    """Returns the pair that each ``NAME`` or ``NEW=OLD`` stands for; names may hold ``=`` themselves.

    Raises:
        UserError: If a name is unknown.
    """
    ours, theirs = names(new.methods), names(old.methods)
    return [_pair(text, ours, theirs) for text in dict.fromkeys(given)]


def _pair(text: str, ours: Sequence[str], theirs: Sequence[str]) -> Pair:
    if text in ours and text in theirs:
        return text, text
    at = [place for place, char in enumerate(text) if char == "="]
    splits = [(text[:place], text[place + 1 :]) for place in at]
    for pair in splits:
        if pair[0] in ours and pair[1] in theirs:
            return pair
    for name, other in splits:
        if name in ours:
            raise unknown("method of the old results", other, theirs)
        if other in theirs:
            raise unknown("method of the new results", name, ours)
    raise unknown("method of both results", text, set(ours) & set(theirs))


def matches(
    new: Board, old: Board, pairs: Sequence[Pair], metrics: Sequence[str] = (), *, precision: bool = True
) -> Iterator[Match]:
    """Yields every column that the old folder has of the pairs; what the new one lacks has a reason in its place.

    Args:
        new: What is judged.
        old: What it is compared with.
        pairs: Methods; the new name need not have been run.
        metrics: Names of metrics; empty for all of the old folder.
        precision: Whether the models have to have answered in the same precision.

    Raises:
        UserError: If the two have no model on a data set or no metric in common, or measured different things.
    """
    columns = [column for column in old.columns if not metrics or column.metric in metrics]
    for name in metrics:
        if name not in names(old.metrics):
            raise unknown("metric of the old results", name, names(old.metrics))
    check(new, old, columns, precision=precision)
    cells = [{(cell.model, cell.dataset, cell.method): cell for cell in board.cells} for board in (new, old)]
    for dataset, models in old.blocks():
        for model in models:
            for column in columns:
                for pair in pairs:
                    ours, theirs = (
                        own.get((model.name, dataset.name, name)) for own, name in zip(cells, pair, strict=True)
                    )
                    yield Match(
                        model=model.name,
                        dataset=dataset.name,
                        methods=pair,
                        column=column,
                        metric=old.metric(column.metric),
                        new=_scores(new, ours, column),
                        old=_scores(old, theirs, column),
                        cell=ours,
                    )


def _scores(board: Board, cell: Cell | None, column: Column) -> ColumnScores:
    """Returns a column of a cell if it is whole; else an empty one with the reason."""
    if cell is None or column not in board.columns:
        return ColumnScores(reason=NOT_RUN)
    if cell.reason is not None:
        return ColumnScores(reason=cell.reason)
    found = cell.scores[board.columns.index(column)]
    return found if found.complete else ColumnScores(reason=MISSING, complete=False)
