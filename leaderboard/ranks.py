"""Which method comes first over data sets and models: ranks, Borda counts, Bradley-Terry (metrics spec 12.5).

A block is one data set and model, its value per method a mean score. Blocks that share data or models are not
independent, which every p here assumes: say so beside it.
"""

from collections.abc import Hashable, Sequence
from math import nan, sqrt

import numpy as np

from attrlab.bench.types import Bools, Floats
from attrlab.leaderboard.distributions import chi_squared, range_quantile
from attrlab.leaderboard.statistics import LEVEL, RESAMPLES, resamples

FEWEST_BLOCKS = 6
"""Complete blocks below which ranks are not tested."""

STEPS = 10_000
"""Steps after which Bradley-Terry strengths that have not settled count as not found."""

_BLOCK = 500_000  # numbers held at once, which bounds memory


def block_ranks(blocks: Floats, *, higher_is_better: bool) -> Floats:
    """Returns the rank of each method in each complete block, 1 is best, equal values share their mean rank.

    Args:
        blocks: ``(n_blocks, n_methods)``; blocks with a NaN are left out.
        higher_is_better: Direction of the values.

    Returns:
        ``(n_complete, n_methods)``, from 1 to n_methods; lower is better.

    >>> block_ranks(np.array([[0.3, 0.5, 0.3], [0.1, np.nan, 0.2]]), higher_is_better=True).tolist()
    [[2.5, 1.0, 2.5]]
    """
    complete = blocks[~np.isnan(blocks).any(axis=1)]
    ranks: Floats = complete.shape[1] - _outcomes(complete, higher_is_better).sum(axis=2)
    return ranks


def friedman(ranks: Floats) -> tuple[float, float]:
    """Returns Friedman's statistic, corrected for ties, and its p: do all methods rank alike?

    ``(M - 1) sum_j (R_j - N (M + 1) / 2)^2 / sum_ij (r_ij - (M + 1) / 2)^2``, ``R_j`` the sum of the ranks of method j,
    against chi-squared with ``M - 1`` degrees of freedom. NaN below 6 blocks or 2 methods; (0, 1) if all are tied.

    Range [0, N (M - 1)], higher is less alike. Source: Friedman 1937; Conover 1999, Practical Nonparametric
    Statistics, 5.8.

    Args:
        ranks: Of :func:`block_ranks`, ``(N, M)``.
    """
    n, m = ranks.shape
    if n < FEWEST_BLOCKS or m < 2:
        return nan, nan
    off = ranks - (m + 1) / 2
    total = float((off**2).sum())
    statistic = (m - 1) * float((off.sum(axis=0) ** 2).sum()) / total if total else 0.0
    return statistic, chi_squared(statistic, m - 1)


def critical_difference(n_blocks: int, n_methods: int, alpha: float = 0.05) -> float:
    """Returns Nemenyi's critical difference of average ranks: ``q_alpha sqrt(M (M + 1) / (6 N))``.

    Methods whose average ranks differ by more are told apart, at level ``alpha`` for all pairs together; ``q_alpha`` is
    the quantile of the range of M standard normals over sqrt(2). NaN below 6 blocks or 2 methods.

    Source: Nemenyi 1963; Demsar 2006, Statistical Comparisons of Classifiers over Multiple Data Sets, 3.2.2.

    >>> round(critical_difference(14, 4), 2)
    1.25
    """
    if n_blocks < FEWEST_BLOCKS or n_methods < 2:
        return nan
    quantile = range_quantile(1 - alpha, n_methods) / sqrt(2)
    return quantile * sqrt(n_methods * (n_methods + 1) / (6 * n_blocks))


def pairwise_wins(values: Floats, *, higher_is_better: bool) -> Floats:
    """Returns how often each method beats each other one, ``(n_methods, n_methods)``, ties as half a win for both.

    Args:
        values: ``(n_examples or n_blocks, n_methods)``; where one of two is NaN, they do not meet.
        higher_is_better: Direction of the values.

    >>> pairwise_wins(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, np.nan]]), higher_is_better=True).tolist()
    [[0.0, 1.5], [0.5, 0.0]]
    """
    wins: Floats = _outcomes(values, higher_is_better).sum(axis=0)
    return wins


def _outcomes(values: Floats, higher_is_better: bool) -> Floats:
    """Returns 1 where method i beats j, 1/2 where they tie, 0 where it loses or they do not meet, ``(n, M, M)``."""
    better = np.sign(values[:, :, None] - values[:, None, :]) * (1 if higher_is_better else -1)
    wins = np.nan_to_num((1 + better) / 2, nan=0.0)
    m = values.shape[1]
    wins[:, range(m), range(m)] = 0.0
    return wins


def borda(ranks: Floats) -> Floats:
    """Returns the Borda count of each method: how many others it beats, over all blocks, ties as a half.

    Range [0, N (M - 1)], higher is better. On complete blocks it is ``N M`` less the sum of the ranks: it orders
    methods as their average ranks do, always. Source: Borda 1781.

    Args:
        ranks: Of :func:`block_ranks`, ``(N, M)``.

    >>> borda(np.array([[1.0, 2.5, 2.5], [1.0, 2.0, 3.0]])).tolist()
    [4.0, 1.5, 0.5]
    """
    counts: Floats = (ranks.shape[1] - ranks).sum(axis=0)
    return counts


def bradley_terry(wins: Floats) -> Floats:
    """Returns the strengths ``s`` with P(i beats j) = ``s_i / (s_i + s_j)`` that make the wins most likely.

    Minorise-maximise: ``s_i = w_i / sum_j n_ij / (s_i + s_j)``, ``w_i`` the wins of i and ``n_ij`` how often the two
    met, until no strength changes by more than 1e-10 of itself. Strengths have the geometric mean 1; higher is better.
    NaN where no finite strengths are most likely: some methods never beat, nor tie with, any of the others (Ford 1957).

    Source: Bradley and Terry 1952; Hunter 2004, MM algorithms for generalized Bradley-Terry models, equation 3.

    Args:
        wins: Of :func:`pairwise_wins`, ``(..., M, M)``.

    Returns:
        ``(..., M)``.

    >>> bradley_terry(np.array([[0.0, 4.0], [1.0, 0.0]])).tolist()
    [2.0, 0.5]
    """
    m = wins.shape[-1]
    if m == 1:
        return np.ones(wins.shape[:-1])
    tables = wins.reshape(-1, m, m)
    found = np.full(tables.shape[:-1], nan)
    open_ = np.flatnonzero(_connected(tables))  # those that have not settled yet
    strengths = np.ones((len(open_), m))
    met, won = (tables + tables.swapaxes(1, 2))[open_], tables.sum(axis=2)[open_]
    for _ in range(STEPS):
        if len(open_) == 0:
            break
        raised = won / (met / (strengths[:, :, None] + strengths[:, None, :])).sum(axis=2)
        raised /= np.exp(np.log(raised).mean(axis=1, keepdims=True))
        settled = (np.abs(raised / strengths - 1) < 1e-10).all(axis=1)
        found[open_[settled]] = raised[settled]
        open_, strengths, met, won = (part[~settled] for part in (open_, raised, met, won))
    return found.reshape(wins.shape[:-1])


def _connected(tables: Floats) -> Bools:
    """Returns whether every method has beaten every other one through a chain of wins or ties, per table."""
    m = tables.shape[-1]
    reached = (tables > 0) | np.eye(m, dtype=bool)
    for _ in range(m.bit_length()):
        reached = (reached.astype(np.float64) @ reached).astype(bool)
    return np.asarray(reached.all(axis=(1, 2)), dtype=bool)


def strengths(
    values: Floats, *, higher_is_better: bool, groups: Sequence[Hashable] | None = None, count: int = RESAMPLES
) -> Floats:
    """Returns Bradley-Terry strengths from wins per example, with 95 % bootstrap intervals over examples.

    A resample in which no finite strengths are most likely could be anything: it counts as 0 for the lower end and as
    infinite for the upper end. Intervals are NaN where the strengths are.

    Args:
        values: ``(n_examples, n_methods)``, NaN where there is no score.
        higher_is_better: Direction of the values.
        groups: Label of each row; those of a group (one example under several models, say) are resampled together.
        count: Number of resamples, the same for all metrics and models with as many examples or groups.

    Returns:
        ``(n_methods, 3)``: strength, lower and upper end.
    """
    outcomes = _outcomes_by_group(values, higher_is_better, groups)
    n, m = outcomes.shape[:2]
    found = bradley_terry(outcomes.sum(axis=0))
    if np.isnan(found).any():
        return np.full((m, 3), nan)
    rows = max(1, _BLOCK // m**2)
    drawn = []
    for block in resamples(n, count):
        for indices in np.array_split(block, -(-len(block) // rows)):
            weights = np.stack([np.bincount(one, minlength=n) for one in indices])
            drawn.append(bradley_terry(np.tensordot(weights, outcomes, axes=1)))
    sampled = np.concatenate(drawn)
    tail = (1 - LEVEL) / 2
    low = np.quantile(np.nan_to_num(sampled, nan=0.0), tail, axis=0, method="lower")
    high = np.quantile(np.nan_to_num(sampled, nan=np.inf), 1 - tail, axis=0, method="higher")
    return np.stack([found, low, high], axis=1)


def _outcomes_by_group(values: Floats, higher_is_better: bool, groups: Sequence[Hashable] | None) -> Floats:
    if groups is None:
        return _outcomes(values, higher_is_better)
    rows: dict[Hashable, list[int]] = {}
    for row, label in enumerate(groups):
        rows.setdefault(label, []).append(row)
    return np.array([_outcomes(values[own], higher_is_better).sum(axis=0) for own in rows.values()])


def robust(ranks: Floats, labels: Sequence[Hashable], merits: Floats) -> Bools:
    """Returns whether each method's place is robust: all aggregates agree, and no label decides it.

    Its place by average rank, which is also its place by Borda count, must be its place by ``merits``, and stay the
    same when the blocks of any one label are left out.

    Args:
        ranks: Of :func:`block_ranks`, ``(N, M)``.
        labels: Data set (or metric) of each block, ``(N,)``; with a single one, nothing is robust.
        merits: What else should agree, higher is better, ``(M,)``: the :func:`strengths`. Where NaN, nothing is robust.
    """
    place = _places(borda(ranks))
    kept: Bools = np.equal(place, _places(merits)) & ~np.isnan(merits)
    names = set(labels)
    for left_out in names:
        rest = ranks[[label != left_out for label in labels]]
        kept &= _places(borda(rest)) == place
    return kept if len(names) > 1 else np.zeros_like(kept)


def _places(merits: Floats) -> Floats:
    """Returns how many methods are better than each, plus half of those that are as good."""
    places: Floats = _outcomes(merits[None], higher_is_better=True)[0].sum(axis=0)
    return places
