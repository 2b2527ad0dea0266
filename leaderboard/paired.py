"""Paired tests and effect sizes of the differences between two methods (metrics spec 12.3, 12.4).

All tests are two-sided but where they are told otherwise. SciPy, which the tests of this module compare with, takes
longer to import than any of this takes to compute.
"""

from collections.abc import Hashable, Iterator, Sequence
from functools import reduce
from math import comb, inf, nan, sqrt
from statistics import NormalDist

import numpy as np

from attrlab.bench.types import Bools, Floats

FLIPS = 10_000
"""Sign flips of a permutation test; where there are fewer in all, each is tried once."""

_EXACT = 50  # differences other than zero up to which the signed-rank distribution is enumerated
_BLOCK = 500_000  # numbers drawn at once, which bounds memory


def sign_flip(
    differences: Floats,
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    greater: bool = False,
    flips: int | None = None,
) -> float:
    """Returns the p of the sign-flip permutation test of the mean difference (metrics spec 12.3).

    If the methods are exchangeable, each difference could as well have the other sign: p is the share of flips whose
    ``|sum|`` reaches the observed one. All flips are tried if they are at most 10,000; else 10,000 are drawn, and
    ``p = (1 + reached) / (1 + 10,000)`` counts the observed one among them. The draws depend on the seed and on how
    many can be flipped alone, so that all pairs share them; the order of the examples does not matter.

    With ``greater``, p is the share of flips whose sum, with its sign, reaches the observed one: evidence that the mean
    is above zero. It never grows when a difference does, so it holds for every mean below zero as well. Flips leave the
    sum of squares as it is, hence order sums as they order Student's t: in large samples the level is kept even where
    the differences are not symmetric.

    Range (0, 1]; 1 if all differences are zero. Source: Fisher 1935, The Design of Experiments; the share with the
    observed one: Phipson and Smyth 2010.

    Args:
        differences: First less second, ``(n_examples,)``, finite, at least one.
        groups: Label of each example; a group's differences keep or change their signs together.
        seed: Of the draws.
        greater: Ask whether the mean is above zero, one-sided, not whether it is other than zero.
        flips: Flips to draw where not all are tried, 10,000 if None; 1 / (1 + flips) is the smallest p.
    """
    sorted_by = np.lexsort((differences, np.abs(differences)))  # sums in this order are the same for every order
    sums = differences[sorted_by]
    if groups is not None:
        names: dict[Hashable, int] = {}
        members = np.array([names.setdefault(name, len(names)) for name in groups])
        sums = np.bincount(members[sorted_by], weights=sums).astype(np.float64)
    sizes = np.sort(np.abs(sums[sums != 0]))  # to flip a zero changes nothing, and only sizes matter under flips
    if len(sizes) == 0:
        return 1.0
    exact = 1 << len(sizes) <= FLIPS
    size = np.positive if greater else np.abs
    # Sums that are equal but for rounding reach each other.
    least = size(sums.sum()) - 1e-12 * float(sizes.sum())
    reached = count = 0
    for flipped in _all_flips(len(sizes)) if exact else _drawn_flips(len(sizes), seed, flips):
        reached += int((size(sizes.sum() - 2 * (flipped @ sizes)) >= least).sum())
        count += len(flipped)
    return reached / count if exact else (1 + reached) / (1 + count)


def _all_flips(n: int) -> Iterator[Floats]:
    yield (np.arange(1 << n)[:, None] >> np.arange(n) & 1).astype(np.float64)


def _drawn_flips(n: int, seed: int, count: int | None = None) -> Iterator[Floats]:
    rng = np.random.default_rng((seed, n))
    rows, count = max(1, _BLOCK // n), count or FLIPS
    for start in range(0, count, rows):
        drawn = min(rows, count - start)
        bits = np.unpackbits(np.frombuffer(rng.bytes((drawn * n + 7) // 8), dtype=np.uint8), count=drawn * n)
        yield bits.reshape(drawn, n).astype(np.float64)


def signed_rank(differences: Floats) -> float:
    """Returns the p of Wilcoxon's signed-rank test, with Pratt's zeros (metrics spec 12.3).

    Differences are ranked by size, zeros included, equal sizes by their mean rank; ``W`` is the sum of the ranks of the
    positive ones. Under the null each rank other than a zero's counts with probability 1/2, whence the exact
    distribution of ``W`` up to 50 such ranks, ties or not; beyond, ``z = (W - sum r / 2) / sqrt(sum r^2 / 4)`` is taken
    as normal, without continuity correction.

    Range [0, 1]; 1 if all differences are zero. Source: Wilcoxon 1945; Pratt 1959.
    """
    ranks, positive = _signed_ranks(differences)
    if len(ranks) == 0:
        return 1.0
    off = abs(ranks[positive].sum() - ranks.sum() / 2)
    if len(ranks) > _EXACT:
        return 2 * NormalDist().cdf(-off / sqrt((ranks**2).sum() / 4))
    doubled = np.rint(2 * ranks).astype(int)  # mean ranks are whole or half

    def add(chances: Floats, rank: int) -> Floats:
        return (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2

    chances = reduce(add, doubled.tolist(), np.ones(1))
    reached = np.abs(np.arange(len(chances)) - doubled.sum() / 2) >= 2 * off - 0.25
    return min(1.0, float(chances[reached].sum()))


def rank_biserial(differences: Floats) -> float:
    """Returns the matched rank-biserial correlation ``(W+ - W-) / (W+ + W-)`` of :func:`signed_rank`'s ranks.

    Range [-1, 1]; 1 if the first is never lower, 0 if neither is ahead or all differences are zero. Source: Kerby
    2014, The simple difference formula.

    >>> rank_biserial(np.array([3.0, 2.0, -1.0])), rank_biserial(np.zeros(3))
    (0.6666666666666666, 0.0)
    """
    ranks, positive = _signed_ranks(differences)
    return float((2 * ranks[positive].sum() - ranks.sum()) / ranks.sum()) if len(ranks) else 0.0


def _signed_ranks(differences: Floats) -> tuple[Floats, Bools]:
    """Returns the rank by size of each difference other than zero, zeros ranked first, and whether it is positive."""
    _, places, counts = np.unique(np.abs(differences), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks[differences != 0], differences[differences != 0] > 0


def sign_test(right: int, n: int) -> float:
    """Returns the two-sided exact binomial p of ``right`` of ``n`` against 1/2.

    >>> sign_test(0, 5), sign_test(3, 6)
    (0.0625, 1.0)
    """
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(right, n - right) + 1)) / (1 << n))


def mcnemar(first: Floats, second: Floats) -> float:
    """Returns the p of McNemar's exact test of scores that are 0 or 1 (metrics spec 12.3).

    Of the examples on which the two differ, the first should be right on half: a binomial test. Range (0, 1], 1 if
    they never differ. Source: McNemar 1947.

    >>> mcnemar(np.array([1.0, 1, 1, 1, 1, 0]), np.array([0.0, 0, 0, 0, 0, 0]))
    0.0625
    """
    return sign_test(int((first > second).sum()), int((first != second).sum()))


def standardized(differences: Floats) -> float:
    """Returns Cohen's ``d_z``: mean difference over its standard deviation (n - 1) (metrics spec 12.4).

    Unbounded; 0 if all differences are zero, infinite if they are one other number, NaN below two. Source: Cohen 1988,
    Statistical Power Analysis, 2.3.5.

    >>> standardized(np.array([1.0, 2.0, 3.0]))
    2.0
    """
    if len(differences) < 2:
        return nan
    if np.ptp(differences) == 0:
        return float(np.sign(differences[0])) * inf if differences[0] else 0.0
    return float(differences.mean() / differences.std(ddof=1))
