"""Which of two methods is better, by how much and how sure (metrics spec 12.2-12.4, 12.7).

Everything is a function of the scores of methods on the same examples; every difference is the first method's score
less the second's, in the metric's own units and direction.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from math import isnan, nan, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np

from attrlab.bench.types import Bools, Floats
from attrlab.leaderboard.board import ColumnScores
from attrlab.leaderboard.distributions import inverse, noncentral_t
from attrlab.leaderboard.flips import sign_flips
from attrlab.leaderboard.paired import mcnemar, rank_biserial, signed_rank, standardized
from attrlab.leaderboard.statistics import LEVEL, RESAMPLES, intervals, resamples

ALPHA = 0.05
"""Adjusted p below which a difference may be a win."""

SMALLEST_EFFECT = 0.1
"""|d_z| from which a difference may be a win (metrics spec 12.4)."""

_DEGENERATE = 1e-6  # denominators below it have no ratio (metrics spec 0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two methods on the examples that both have a score of.

    Attributes:
        first: Index of the method that is subtracted from, ...
        second: ... and of the one that is subtracted.
        n: Examples that both have a score of.
        mean: Mean difference, None for no example.
        low: Lower end of its 95 % bootstrap interval, None below two examples or groups.
        high: Its upper end.
        p: Of the :func:`sign_flips` test, the primary one; None for no example.
        adjusted: p after Holm's correction within the family.
        p_wilcoxon: Of the :func:`signed_rank` test, the secondary one.
        p_mcnemar: Of :func:`mcnemar`'s test, None unless all scores are 0 or 1.
        d_z: Of :func:`standardized`, None below two examples.
        rank_biserial: Of :func:`rank_biserial`.
    """

    first: int
    second: int
    n: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    adjusted: float | None = None
    p_wilcoxon: float | None = None
    p_mcnemar: float | None = None
    d_z: float | None = None
    rank_biserial: float | None = None

    @property
    def win(self) -> bool:
        """Whether one is better, by adjusted p and effect size; which one, the sign of the mean difference says."""
        return self.adjusted is not None and self.d_z is not None and win(self.adjusted, self.d_z)


def win(adjusted: float, d_z: float) -> bool:
    """Returns whether a difference counts: adjusted p < 0.05 and |d_z| >= 0.1 (metrics spec 12.4).

    >>> win(0.01, -0.3), win(0.01, 0.05), win(0.2, 0.3)
    (True, False, False)
    """
    return adjusted < ALPHA and abs(d_z) >= SMALLEST_EFFECT


def common(columns: Sequence[ColumnScores]) -> tuple[tuple[str, ...], Floats]:
    """Returns the examples that all columns have a value of, in the first's order, and ``(n_examples, n_columns)``."""
    found = [dict(zip(column.examples, column.values.tolist(), strict=True)) for column in columns]
    examples = tuple(one for one in columns[0].examples if all(not np.isnan(of.get(one, nan)) for of in found))
    return examples, np.array([[of[one] for of in found] for one in examples]).reshape(len(examples), len(columns))


def compare_all(values: Floats, groups: Sequence[Hashable] | None = None) -> list[Comparison]:
    """Returns the comparison of every pair of methods, (0, 1) first, with Holm's correction over all of them.

    The pairs are one family (metrics spec 12.3): give the methods on one data set, model, metric and operator.

    Args:
        values: ``(n_examples, n_methods)``, NaN where there is no score; a pair leaves those examples out.
        groups: Label of each example; those of a group (texts with one source, say) are resampled and flipped
            together. The signed ranks take examples as independent all the same.
    """
    pairs = list(combinations(range(values.shape[1]), 2))
    if not pairs:
        return []
    differences = np.stack([values[:, i] - values[:, j] for i, j in pairs], axis=1)
    ends, ps = intervals(differences, groups=groups).tolist(), sign_flips(differences, groups).tolist()
    found = [_pair(values, *parts) for parts in zip(pairs, ends, ps, strict=True)]
    adjusted = holm([nan if one.p is None else one.p for one in found])
    return [one if one.p is None else replace(one, adjusted=p) for one, p in zip(found, adjusted.tolist(), strict=True)]


def _pair(values: Floats, pair: tuple[int, int], interval: Sequence[float], p: float) -> Comparison:
    i, j = pair
    valid = np.flatnonzero(~np.isnan(values[:, pair]).any(axis=1)).tolist()
    first, second = values[valid, i], values[valid, j]
    differences, n = first - second, len(valid)
    if n == 0:
        return Comparison(first=i, second=j, n=0)
    binary = np.isin([first, second], (0.0, 1.0)).all()
    return Comparison(
        first=i,
        second=j,
        n=n,
        mean=float(differences.mean()),
        low=None if isnan(interval[0]) else interval[0],
        high=None if isnan(interval[1]) else interval[1],
        p=p,
        p_wilcoxon=signed_rank(differences),
        p_mcnemar=mcnemar(first, second) if binary else None,
        d_z=standardized(differences) if n > 1 else None,
        rank_biserial=rank_biserial(differences),
    )


def separated(values: Floats, *, higher_is_better: bool, groups: Sequence[Hashable] | None = None) -> Bools:
    """Returns whether each method is significantly better than each other one: the wins of :func:`compare_all`.

    Args:
        values: ``(n_examples, n_methods)``, NaN where there is no score; a pair leaves those examples out.
        higher_is_better: Direction of the values.
        groups: Label of each example; those of a group are flipped together.

    Returns:
        ``(n_methods, n_methods)``, row better than column.
    """
    better = np.zeros((values.shape[1], values.shape[1]), dtype=bool)
    first, second = np.triu_indices(len(better), 1)
    differences = (values[:, first] - values[:, second]) * (1 if higher_is_better else -1)
    adjusted = holm(sign_flips(differences, groups))
    for pair in np.flatnonzero(adjusted < ALPHA):
        own = differences[~np.isnan(differences[:, pair]), pair]
        d_z = standardized(own)
        if win(adjusted[pair], d_z):
            i, j = (first[pair], second[pair]) if d_z > 0 else (second[pair], first[pair])
            better[i, j] = True
    return better


def holm(ps: Sequence[float] | Floats) -> Floats:
    """Returns p values adjusted by Holm's step-down procedure, at least as large as before and at most 1.

    The i-th smallest of ``m`` becomes the largest of ``(m - j + 1) p_j`` over ``j <= i``. NaN, where there was no test,
    stays NaN and does not count. Source: Holm 1979.

    >>> holm([0.01, 0.04, 0.03, float("nan")]).tolist()
    [0.03, 0.06, 0.06, nan]
    """
    raw = np.asarray(ps, dtype=np.float64)
    order = np.argsort(raw)  # NaN last
    factors = (~np.isnan(raw)).sum() - np.arange(len(raw))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * raw[order]))
    return adjusted


def ratio_interval(numerators: Floats, denominators: Floats, count: int = RESAMPLES) -> tuple[float, float, float]:
    """Returns ``sum of numerators / sum of denominators`` over examples and its 95 % BCa interval (metrics spec 12.2).

    Resamples are shared with all other intervals of as many examples. The ratio is NaN if the mean denominator is
    within 1e-6 of zero; its interval is NaN if that of any resample is, or has the other sign (the ratio could then be
    anything), if all resamples give a ratio on one side of the observed one, and below two examples.

    Source: Efron 1987, Better Bootstrap Confidence Intervals; acceleration by the jackknife.
    """
    n, total = len(numerators), denominators.sum()
    if n == 0 or abs(total) < _DEGENERATE * n:
        return nan, nan, nan
    ratio = numerators.sum() / total
    drawn = [(numerators[rows].sum(axis=1), denominators[rows].sum(axis=1)) for rows in resamples(n, count)]
    tops, bottoms = (np.concatenate(part) for part in zip(*drawn, strict=True))
    left_out = total - denominators  # the jackknife's
    if n < 2 or (np.concatenate([bottoms, left_out]) * np.sign(total) < _DEGENERATE * (n - 1)).any():
        return float(ratio), nan, nan
    found = tops / bottoms
    if np.ptp(found) <= 1e-12 * abs(ratio):
        return float(ratio), float(ratio), float(ratio)
    below = ((found < ratio).mean() + (found <= ratio).mean()) / 2
    if not 0 < below < 1:
        return float(ratio), nan, nan
    without = (numerators.sum() - numerators) / left_out
    off = without.mean() - without
    acceleration = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
    bias = NormalDist().inv_cdf(below)
    tails = []
    for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
        z = bias + NormalDist().inv_cdf(share)
        tails.append(NormalDist().cdf(bias + z / (1 - acceleration * z)))
    low, high = np.quantile(found, tails).tolist()
    return float(ratio), low, high


@cache
def detectable(n: int, alpha: float = ALPHA, power: float = 0.8, *, sides: Literal[1, 2] = 2) -> float:
    """Returns the smallest d_z that a paired test on ``n`` examples finds with the given power (metrics spec 12.7).

    Paired t test of one or two sides, to which the sign-flip test is equivalent for large n: the ``d`` at which a
    noncentral t with n - 1 degrees of freedom and noncentrality ``d sqrt(n)`` leaves the critical values with
    probability ``power``.
    For large n about ``(z(1 - alpha / sides) + z(power)) / sqrt(n)``. Lower finds more; NaN below three examples.

    >>> round(detectable(50), 3), round(detectable(500), 3), round(detectable(100, 0.01, sides=1), 3)
    (0.404, 0.126, 0.321)
    """
    if n < 3:
        return nan
    critical = inverse(lambda c: 1 - sides * noncentral_t(c, n - 1, 0.0), 1 - alpha)

    def found(shift: float) -> float:
        return noncentral_t(critical, n - 1, shift) + (sides - 1) * noncentral_t(critical, n - 1, -shift)

    return inverse(found, power) / sqrt(n)
