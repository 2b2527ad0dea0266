"""Rank groups: which methods a column tells apart, and the ranks that leaves them (metrics spec 12.3, 12.4).

"Not separable" is not transitive: a may be like b and b like c while a beats c. So a column has no classes of equal
methods, but letters that overlap, and a range of ranks for each method.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isnan
from string import ascii_letters

import numpy as np

from attrlab.bench.types import Bools, Floats, Ints
from attrlab.leaderboard.board import Board, Column, ColumnScores, MetricCard
from attrlab.leaderboard.comparisons import separated


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a method stands among those that a column ranks.

    Attributes:
        low: Its rank: 1 plus the methods that are significantly better; also the best rank that it may have.
        high: The worst rank that it may have: the number of methods less those that are significantly worse.
        letters: Two methods share a letter exactly if they are not told apart.
    """

    low: int
    high: int
    letters: str

    @property
    def range(self) -> str:
        """The ranks in words."""
        return f"{self.low}" if self.low == self.high else f"{self.low}\N{EN DASH}{self.high}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contest:
    """The methods that have a value of every example that any method has one of, in one column.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set part.
        column: Metric, operator and unit.
        higher_is_better: Direction of the values.
        methods: Names of the ranked methods, best mean first.
        examples: Ids of the examples.
        values: ``(n_examples, n_methods)``.
        better: Whether a method is significantly better than another one, ``(n_methods, n_methods)``.
        unranked: Names of the methods that have a value of some of the examples only.
    """

    model: str
    dataset: str
    column: Column
    higher_is_better: bool
    methods: tuple[str, ...]
    examples: tuple[str, ...]
    values: Floats
    better: Bools
    unranked: tuple[str, ...]


def standings(better: Bools) -> list[Standing]:
    """Returns the rank, its range and the letters of each method, the best first for letters in order.

    With the pairs' errors controlled together, the ranges hold together as well. Source: Mogstad, Romano, Shaikh and
    Wilhelm 2024, Inference for Ranks, section 3.

    >>> found = standings(np.array([[0, 0, 1], [0, 0, 0], [0, 0, 0]], dtype=bool))
    >>> [(one.low, one.high, one.letters) for one in found]
    [(1, 2, 'a'), (1, 3, 'ab'), (2, 3, 'b')]

    Args:
        better: Whether row is significantly better than column, ``(n_methods, n_methods)``.
    """
    lows = 1 + better.sum(axis=0)
    highs = len(better) - better.sum(axis=1)
    found = zip(lows.tolist(), highs.tolist(), letters(better | better.T), strict=True)
    return [Standing(low=low, high=high, letters=names) for low, high, names in found]


def letters(apart: Bools) -> list[str]:
    """Returns a compact letter display: two methods share a letter exactly if they are not told apart.

    A letter is a set of methods none of which are told apart. For each pair that shares none yet, the nearest first
    with the farthest, one is grown by every method that fits; then those that others make needless are swept away.
    Insertion and absorption (Piepho 2004) makes the same letters where methods differ by their means alone; where they
    do not, it may take as many as 3^(n/3), and this at most one for each pair.

    Source: Piepho 2004, An algorithm for a letter-based representation of all-pairwise comparisons; Gramm et al. 2007,
    Algorithms for compact letter displays (clique cover).

    >>> letters(np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool))
    ['a', 'ab', 'b']

    Args:
        apart: Symmetric, ``(n_methods, n_methods)``; letters are given in the order of the methods.
    """
    m = len(apart)
    shared = np.zeros((m, m), dtype=np.int64)  # how many letters two methods share
    sets: list[Ints] = []
    for i in range(m):
        for j in range(m - 1, i - 1, -1):
            if not apart[i, j] and not shared[i, j]:
                sets.append(_grown(apart, i, j))
                shared[np.ix_(sets[-1], sets[-1])] += 1
    kept = []
    for one in sets:
        square = np.ix_(one, one)
        if (shared[square] > 1).all():
            shared[square] -= 1
        else:
            kept.append(one.tolist())
    kept.sort()
    names = [ascii_letters[place % 52] + "'" * (place // 52) for place in range(len(kept))]
    return ["".join(name for name, members in zip(names, kept, strict=True) if i in members) for i in range(m)]


def _grown(apart: Bools, i: int, j: int) -> Ints:
    """Returns a largest set of methods none of which are told apart, with ``i`` and ``j`` in it, in order."""
    members = [i, j]
    for k in range(len(apart)):
        if not apart[k, members].any():
            members.append(k)
    return np.unique(members)


def replications(contests_: Sequence[Contest], methods: Sequence[str]) -> Ints:
    """Returns in how many contests the first method is significantly better than the second, ``(M, M)``.

    Args:
        contests_: One column on several models and data sets.
        methods: Names, in the order of rows and columns; a method that is not ranked beats none and loses to none.
    """
    place = {name: i for i, name in enumerate(methods)}
    found = np.zeros((len(methods), len(methods)), dtype=np.int64)
    for one in contests_:
        own = [i for i, name in enumerate(one.methods) if name in place]
        rows = [place[one.methods[i]] for i in own]
        found[np.ix_(rows, rows)] += one.better[np.ix_(own, own)]
    return found


def ranks_methods(metric: MetricCard) -> bool:
    """Returns whether a metric ranks methods: it has a direction, is no cost, and compares methods at all."""
    if metric.higher_is_better is None or metric.measured or metric.family == "cost":
        return False
    return metric.comparable.startswith("methods")


@lru_cache(maxsize=1)
def contests(board: Board) -> tuple[Contest, ...]:
    """Returns the contest of each column on each model and data set that has two methods to rank.

    The last board's are kept: several renderings of one board compare once.
    """
    found = []
    for dataset in board.datasets:
        for model in dict.fromkeys(model.name for model in board.models if model.dataset == dataset.name):
            cells = [cell for cell in board.cells if (cell.model, cell.dataset) == (model, dataset.name)]
            for place, column in enumerate(board.columns):
                if ranks_methods(board.metric(column.metric)):
                    rows = {cell.method: cell.scores[place] for cell in cells if cell.reason is None}
                    found.append(_contest(board, model, dataset.name, column, rows))
    return tuple(one for one in found if len(one.methods) > 1)


def _contest(board: Board, model: str, dataset: str, column: Column, rows: dict[str, ColumnScores]) -> Contest:
    higher = bool(board.metric(column.metric).higher_is_better)
    scores = {name: _valid(one) for name, one in rows.items()}
    examples = tuple(dict.fromkeys(example for one in scores.values() for example in one))
    whole = {name: [one[example] for example in examples] for name, one in scores.items() if len(one) == len(examples)}
    names = sorted(whole, key=lambda name: np.mean(whole[name]) * (-1 if higher else 1)) if examples else []
    values = np.array([whole[name] for name in names], dtype=np.float64).reshape(len(names), len(examples)).T
    return Contest(
        model=model,
        dataset=dataset,
        column=column,
        higher_is_better=higher,
        methods=tuple(names),
        examples=examples,
        values=values,
        better=separated(values, higher_is_better=higher),
        unranked=tuple(name for name, one in scores.items() if 0 < len(one) < len(examples)),
    )


def _valid(scores: ColumnScores) -> dict[str, float]:
    if not scores.complete:
        return {}
    pairs = zip(scores.examples, scores.values.tolist(), strict=True)
    return {example: value for example, value in pairs if not isnan(value)}


@lru_cache(maxsize=1)
def ranked(board: Board) -> dict[tuple[str, str, str, Column], Standing]:
    """Returns the standing by model, data set, method and column of every method that a column ranks."""
    found = {}
    for one in contests(board):
        for method, standing in zip(one.methods, standings(one.better), strict=True):
            found[one.model, one.dataset, method, one.column] = standing
    return found
