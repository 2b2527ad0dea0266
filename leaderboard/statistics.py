"""From per-example scores to means with intervals: the only place where anything is averaged."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np

from attrlab.bench.types import Floats, Ints
from attrlab.leaderboard.board import Board, Cell, Column, ColumnScores

RESAMPLES = 10_000
"""Bootstrap resamples (metrics spec 12.2)."""

LEVEL = 0.95
"""Confidence level of every interval."""

_BLOCK = 500_000  # numbers drawn at once, which bounds memory
_COLUMNS = 1024  # columns resampled at once: products large enough that threads on a busy machine wait for few
_KEPT = 10_000_000  # counts of draws kept at most, as all models and metrics of a data set share them

MISSING = "not computed yet: run again to finish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """The mean of one metric over examples.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set part.
        method: Name of the method.
        column: Metric, operator and unit.
        mean: Mean over the scored examples, None if there are none.
        ci_low: Lower end of the 95 % interval of the mean, None below two scored examples.
        ci_high: Its upper end.
        n_scored: Examples with a value.
        n_total: Examples asked for.
        status: ``ok``, ``failed``, ``skipped``, ``undefined`` or ``missing``.
        reason: Why examples have no value, most frequent first, None if all have one.
    """

    model: str
    dataset: str
    method: str
    column: Column
    mean: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_scored: int = 0
    n_total: int = 0
    status: str = "ok"
    reason: str | None = None


def resamples(n: int, count: int = RESAMPLES) -> Iterator[Ints]:
    """Yields blocks of resampled example indices, ``(rows, n)``, ``count`` rows in all.

    Seeded by ``n`` alone, so that all methods, metrics and models with as many examples share them: the differences
    between two methods then carry no noise from resampling.
    """
    rng = np.random.default_rng(n)
    rows = max(1, _BLOCK // n)
    for start in range(0, count, rows):
        yield rng.integers(n, size=(min(rows, count - start), n))


def intervals(values: Floats, count: int = RESAMPLES, groups: Sequence[Hashable] | None = None) -> Floats:
    """Returns the percentile bootstrap interval of the mean of each column, ``(n_columns, 2)``.

    A resample's mean is over the examples that it drew and that have a value; resamples that drew none do not
    count. Columns with fewer than two values, or values in fewer than two groups, have NaN.

    Args:
        values: ``(n_examples, n_columns)``, NaN where an example has no value.
        count: Number of resamples.
        groups: Label of each example; those of a group (texts with one source, say) are drawn together.
    """
    valid = (~np.isnan(values)).astype(np.float64)
    sums = np.nan_to_num(values, nan=0.0)
    if groups is not None:
        sums, valid = _by_group(sums, groups), _by_group(valid, groups)
    found = np.full((values.shape[1], 2), np.nan)
    usable = np.flatnonzero((valid > 0).sum(axis=0) >= 2)
    for start in range(0, len(usable), _COLUMNS):
        chosen = usable[start : start + _COLUMNS]
        ends = _tails(_resampled_means(sums[:, chosen], valid[:, chosen], count))
        # The ends are means of the values: only rounding can carry them outside the values' range.
        own = values[:, chosen]
        found[chosen] = ends.clip(np.nanmin(own, axis=0)[:, None], np.nanmax(own, axis=0)[:, None])
    return found


def _tails(means: Floats) -> Floats:
    """Returns the quantiles between which the level lies of each row, ``(n_rows, 2)``; sorts the rows in place.

    NaN does not count. As :func:`numpy.quantile`, which would take far longer for so many rows.
    """
    means.sort(axis=1)  # NaN last
    last = (~np.isnan(means)).sum(axis=1)[:, None] - 1
    places = last * np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    below = places.astype(np.int64)
    low = np.take_along_axis(means, below, axis=1)
    high = np.take_along_axis(means, np.minimum(below + 1, last), axis=1)
    share = places - below
    ends: Floats = np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))
    return ends


def _by_group(parts: Floats, groups: Sequence[Hashable]) -> Floats:
    names: dict[Hashable, int] = {}
    members = [names.setdefault(label, len(names)) for label in groups]
    sums = np.zeros((len(names), parts.shape[1]))
    np.add.at(sums, members, parts)
    return sums


def _resampled_means(sums: Floats, valid: Floats, count: int) -> Floats:
    """Returns the mean of each column over each resample, ``(n_columns, count)``."""
    n, k = sums.shape
    # Columns with values of the same examples share the number of values that each resample draws.
    same: dict[bytes, int] = {}
    kind = [same.setdefault(column.tobytes(), len(same)) for column in valid.T]
    kinds = valid[:, np.unique(kind, return_index=True)[1]]
    means = np.empty((k, count))
    done = 0
    # Sums over a resample are products with the counts of each example in it, for all columns at once.
    for counts in _kept(n, count) if n * count <= _KEPT else _counts(n, count):
        part = means[:, done : done + len(counts)]
        np.matmul(sums.T, counts.T, out=part)
        with np.errstate(invalid="ignore"):
            part /= (kinds.T @ counts.T)[kind]
        done += len(counts)
    return means


def _counts(n: int, count: int) -> Iterator[Floats]:
    """Yields how often each resample draws each example, ``(rows, n)``, ``count`` rows in all."""
    for indices in resamples(n, count):
        rows = len(indices)
        flat = (indices + n * np.arange(rows)[:, None]).ravel()
        yield np.bincount(flat, minlength=rows * n).reshape(rows, n).astype(np.float64)


@lru_cache(maxsize=2)
def _kept(n: int, count: int) -> tuple[Floats, ...]:
    return (np.concatenate(list(_counts(n, count))),)


@lru_cache(maxsize=1)
def aggregate(board: Board) -> tuple[Aggregate, ...]:
    """Returns one aggregate per cell and column: by data set, model and method (floor first), then column.

    The last board's are kept: several renderings of one board resample once.
    """
    datasets = {dataset.name: i for i, dataset in enumerate(board.datasets)}
    models = {model.name: i for i, model in reversed(list(enumerate(board.models)))}
    methods = {method.name: i for i, method in enumerate(board.ordered_methods())}

    def place(cell: Cell) -> tuple[int, int, int]:
        return datasets[cell.dataset], models[cell.model], methods[cell.method]

    cells = sorted(board.cells, key=place)
    blocks = groupby(cells, key=lambda cell: (cell.dataset, cell.model))
    return tuple(found for _, block in blocks for found in _block(board, list(block)))


def _block(board: Board, cells: Sequence[Cell]) -> Iterator[Aggregate]:
    """Yields the aggregates of one model on one data set."""
    table = [_scores(board, cell) for cell in cells]
    ends = _intervals_of(table)
    planned = next(dataset.n_used for dataset in board.datasets if dataset.name == cells[0].dataset)
    # Metrics that explain again may be asked for fewer examples than the others: a total per column.
    totals = [max((len(row[i].examples) for row in table), default=0) or planned for i in range(len(board.columns))]
    for cell, row in zip(cells, table, strict=True):
        for column, scores, total in zip(board.columns, row, totals, strict=True):
            n_total = len(scores.examples) if scores.complete and scores.reason is None else total
            found = scores.values[~np.isnan(scores.values)] if scores.complete else scores.values[:0]
            status, reason = _status(cell, scores, len(found), n_total)
            low, high = ends.get(id(scores), (None, None))
            yield Aggregate(
                model=cell.model,
                dataset=cell.dataset,
                method=cell.method,
                column=column,
                mean=_mean(found) if len(found) else None,
                ci_low=low,
                ci_high=high,
                n_scored=len(found),
                n_total=n_total,
                status=status,
                reason=reason,
            )


def _intervals_of(table: Sequence[Sequence[ColumnScores]]) -> dict[int, tuple[float, float]]:
    """Returns the interval of each column of scores that has one, by identity; equal examples share resamples."""
    groups: dict[tuple[str, ...], list[ColumnScores]] = {}
    for scores in (scores for row in table for scores in row):
        if scores.complete and (~np.isnan(scores.values)).sum() > 1:
            groups.setdefault(scores.examples, []).append(scores)
    found: dict[int, tuple[float, float]] = {}
    for group in groups.values():
        ends = intervals(np.stack([scores.values for scores in group], axis=1))
        found |= {id(scores): (float(low), float(high)) for scores, (low, high) in zip(group, ends, strict=True)}
    return found


def _scores(board: Board, cell: Cell) -> Sequence[ColumnScores]:
    return cell.scores if cell.reason is None else [ColumnScores(reason=cell.reason)] * len(board.columns)


def _mean(values: Floats) -> float:
    return float(values.mean().clip(values.min(), values.max()))  # rounding alone could leave the range


def _status(cell: Cell, scores: ColumnScores, n_scored: int, n_total: int) -> tuple[str, str | None]:
    """Returns the status of a column of a cell and the reason for what has no value."""
    if scores.reason is not None:
        return "skipped", brief(scores.reason)
    if not scores.complete:
        return "missing", MISSING
    reason = _reasons(cell, scores, n_total)
    if n_scored:
        return "ok", reason
    rows = {row.example: row.status for row in cell.attributions}
    statuses = {rows.get(example, "ok") for example in scores.examples}
    for status in ("failed", "skipped"):
        if statuses == {status}:
            return status, reason
    # Of several kinds, a failure is the one that somebody can repair.
    return "failed" if "failed" in statuses and "ok" not in statuses else "undefined", reason or "no examples"


def _reasons(cell: Cell, scores: ColumnScores, n_total: int) -> str | None:
    """Returns why examples have no value, as in ``3 of 32: only one word``."""
    unscored = np.flatnonzero(np.isnan(scores.values)).tolist()
    # Attributions of a large board are read where they are needed only.
    known = {} if all(scores.reasons[i] for i in unscored) else _known(cell)
    counts = Counter(
        brief(scores.reasons[i] or known.get(scores.examples[i]) or "no reason was recorded") for i in unscored
    )
    if not counts:
        return None
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count} of {n_total}: {reason}" for reason, count in ranked[:3]]
    return "; ".join([*shown, *([f"and {len(ranked) - 3} more reasons"] if len(ranked) > 3 else [])])


def _known(cell: Cell) -> dict[str, str | None]:
    """Returns why examples were not predicted or explained."""
    known: dict[str, str | None] = {row.example: row.reason for row in cell.predictions if row.status != "ok"}
    return known | {row.example: row.reason for row in cell.attributions if row.status != "ok"}


def brief(text: str, limit: int = 240) -> str:
    """Returns text on one line, at most ``limit`` characters (a reason may hold a whole traceback)."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def verdict(found: Aggregate, floor: Aggregate, higher_is_better: bool | None) -> str | None:
    """Returns ``better`` or ``worse`` than the floor if the intervals are disjoint, else ``unclear``.

    None where one of the two has no interval, or the metric no direction.
    """
    if found.ci_low is None or found.ci_high is None or floor.ci_low is None or floor.ci_high is None:
        return None
    if higher_is_better is None:
        return None
    if found.ci_low > floor.ci_high:
        return "better" if higher_is_better else "worse"
    if found.ci_high < floor.ci_low:
        return "worse" if higher_is_better else "better"
    return "unclear"
