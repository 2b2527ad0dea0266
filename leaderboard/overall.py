"""Ranks over several models and data sets: average rank, Borda count and Bradley-Terry side by side (spec 12.5).

Scores are ranked within a block only (one model, data set and column), so nothing is averaged that does not compare.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from attrlab.bench.types import Bools, Floats, Ints
from attrlab.leaderboard.board import Board, Column
from attrlab.leaderboard.groups import Contest, contests, replications
from attrlab.leaderboard.judged import trusted
from attrlab.leaderboard.ranks import block_ranks, borda, critical_difference, friedman, robust, strengths

_RESAMPLES = 1_000  # of Bradley-Terry strengths, each of which is a fit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overall:
    """The methods that are ranked in every one of several contests, best average rank first.

    Attributes:
        name: Family of the metrics.
        columns: The columns, one or all of a family.
        blocks: Number of contests: columns on models and data sets.
        methods: Names.
        left_out: Methods that have values, but are not ranked in every contest.
        average: Average rank, ``(M,)``, 1 is best.
        borda: Borda count, ``(M,)``, higher is better.
        strengths: Bradley-Terry strength, and the ends of its interval over examples, ``(M, 3)``.
        robust: Whether all three give a method the same place, without any one data set, model or metric, too.
        p: Of Friedman's test, NaN below 6 blocks.
        difference: Nemenyi's critical difference of average ranks, NaN below 6 blocks.
        wins: In how many contests the row is significantly better than the column, ``(M, M)``.
    """

    name: str
    columns: tuple[Column, ...]
    blocks: int
    methods: tuple[str, ...]
    left_out: tuple[str, ...]
    average: Floats
    borda: Floats
    strengths: Floats
    robust: Bools
    p: float
    difference: float
    wins: Ints


def overall(name: str, found: Sequence[Contest]) -> Overall | None:
    """Returns the aggregates of contests; None on one model and data set, or without two methods ranked in all.

    Args:
        name: Name of what is ranked by.
        found: Contests of one column, or of columns of one family: plausible is not faithful.
    """
    ran = dict.fromkeys(method for one in found for method in (*one.methods, *one.unranked))
    names = [method for method in ran if all(method in one.methods for one in found)]
    if len({(one.dataset, one.model) for one in found}) < 2 or len(names) < 2:
        return None
    oriented = [
        one.values[:, [one.methods.index(method) for method in names]] * (1 if one.higher_is_better else -1)
        for one in found
    ]
    blocks = np.stack([values.mean(axis=0) for values in oriented])
    ranks = block_ranks(blocks, higher_is_better=True)
    order = np.argsort(ranks.mean(axis=0), kind="stable")
    names, ranks = [names[i] for i in order], ranks[:, order]
    # An example under several models or metrics is one example: it is resampled as a whole.
    labels = [(one.dataset, example) for one in found for example in one.examples]
    merits = strengths(np.concatenate(oriented)[:, order], higher_is_better=True, groups=labels, count=_RESAMPLES)
    return Overall(
        name=name,
        columns=tuple(dict.fromkeys(one.column for one in found)),
        blocks=len(found),
        methods=tuple(names),
        left_out=tuple(method for method in ran if method not in names),
        average=ranks.mean(axis=0),
        borda=borda(ranks),
        strengths=merits,
        robust=_robust(found, ranks, merits[:, 0]),
        p=friedman(ranks)[1],
        difference=critical_difference(len(ranks), len(names)),
        wins=replications(found, names),
    )


def _robust(found: Sequence[Contest], ranks: Floats, merits: Floats) -> Bools:
    """Returns what no data set, model or metric decides alone, of which there are several."""
    labellings = [[one.dataset for one in found], [one.model for one in found], [one.column.metric for one in found]]
    several = [robust(ranks, labels, merits) for labels in labellings if len(set(labels)) > 1]
    return np.logical_and.reduce(several) if several else np.zeros(len(merits), dtype=bool)


def overalls(board: Board) -> Iterator[Overall]:
    """Yields the aggregates of each family that has several columns, then of each column in it, over all blocks.

    Columns that hardly tell methods from chance are left out, see :func:`attrlab.leaderboard.judged.trusted`.
    """
    families: dict[str, dict[Column, list[Contest]]] = {}
    kept = trusted(board)
    for one in (one for one in contests(board) if one.column in kept):
        family = board.metric(one.column.metric).family
        families.setdefault(family, {}).setdefault(one.column, []).append(one)
    for name, columns in families.items():
        several = [[one for own in columns.values() for one in own]] if len(columns) > 1 else []
        for members in [*several, *columns.values()]:
            aggregate = overall(name, members)
            if aggregate is not None:
                yield aggregate
