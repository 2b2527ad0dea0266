"""Paired tests and effect sizes of the differences between two methods (metrics spec 12.3, 12.4).

All tests are two-sided but :func:`sign_flip_above`. SciPy, which the tests of this module compare with, takes
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


def sign_flip(differences: Floats, groups: Sequence[Hashable] | None = None, *, seed: int = 0) -> float:
    """Returns the p of the sign-flip permutation test of the mean difference (metrics spec 12.3).

    If the methods are exchangeable, each difference could as well have the other sign: p is the share of flips whose
    ``|sum|`` reaches the observed one. All flips are tried if they are at most 10,000; else 10,000 are drawn, and
    ``p = (1 + reached) / (1 + 10,000)`` counts the observed one among them. The draws depend on the seed and on how
    many can be flipped alone, so that all pairs share them; the order of the examples does not matter.

    Range (0, 1]; 1 if all differences are zero. Source: Fisher 1935, The Design of Experiments; the share with the
    observed one: Phipson and Smyth 2010.

    Args:
        differences: First less second, ``(n_examples,)``, finite, at least one.
        groups: Label of each example; a group's differences keep or change their signs together.
        seed: Of the draws.
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
    # Sums that are equal but for rounding reach each other.
    least = abs(float(sums.sum())) - 1e-12 * float(sizes.sum())
    reached = count = 0
    for flipped in all_flips(len(sizes)) if exact else drawn_flips(len(sizes), seed):
        reached += int((np.abs(sizes.sum() - 2 * (flipped @ sizes)) >= least).sum())
        count += len(flipped)
    return reached / count if exact else (1 + reached) / (1 + count)


def sign_flip_above(differences: Floats, *, seed: int = 0) -> float:
    """Returns the one-sided p of the sign-flip test: is the mean difference above zero?

    p is the share of flips whose sum reaches the observed one, that is, in which what was flipped adds up to zero or
    less; all flips up to 13 differences, else drawn ones and the observed one, as in :func:`sign_flip`. Under
    symmetry about zero or below, ``P(p <= a) <= a``: p never falls when differences do, and drawn flips, shared by all
    samples of a size, keep that where all differences fall by the same number. Flips leave the sum of squares as it is
    and so order sums as Student's t orders them: in large samples the level holds without symmetry too.

    Range (0, 1]; 1 if all differences are zero. Source: as of :func:`sign_flip`.

    Args:
        differences: ``(n_examples,)``, finite, at least one.
        seed: Of the draws.

    >>> sign_flip_above(np.array([3.0, 2.0, -1.0])), sign_flip_above(np.array([-3.0, -2.0, 1.0]))
    (0.25, 0.875)
    """
    ordered = np.sort(differences)
    zero = 1e-12 * float(np.abs(ordered).sum())  # but for rounding
    exact = 1 << len(ordered) <= FLIPS
    reached = count = 0
    for flipped in all_flips(len(ordered)) if exact else drawn_flips(len(ordered), seed):
        reached += int((flipped @ ordered <= zero).sum())
        count += len(flipped)
    return reached / count if exact else (1 + reached) / (1 + count)


def all_flips(n: int) -> Iterator[Floats]:
    """Yields, in one block, which of ``n`` numbers are flipped in each of the ``2^n`` ways, 0 or 1, ``(2^n, n)``."""
    yield (np.arange(1 << n)[:, None] >> np.arange(n) & 1).astype(np.float64)


def drawn_flips(n: int, seed: int) -> Iterator[Floats]:
    """Yields ``FLIPS`` draws of which of ``n`` numbers are flipped, 0 or 1, in blocks ``(drawn, n)``."""
    rng = np.random.default_rng((seed, n))
    rows = max(1, _BLOCK // n)
    for start in range(0, FLIPS, rows):
        drawn = min(rows, FLIPS - start)
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
