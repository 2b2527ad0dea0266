"""The sign-flip test of many differences at once, for families of thousands of pairs (metrics spec 12.3)."""

from collections.abc import Hashable, Iterator, Sequence
from math import erfc, sqrt

import numpy as np

from attrlab.bench.types import Floats
from attrlab.leaderboard.paired import FLIPS, all_flips, drawn_flips

_COLUMNS = 256  # columns flipped at once, which bounds memory

_TAIL = 1 / (2 * erfc(1.0))  # Bentkus and Dzindzalieta's constant, 1 / (4 P(Z >= sqrt 2)) = 3.178...


def sign_flips(differences: Floats, groups: Sequence[Hashable] | None = None, *, seed: int = 0) -> Floats:
    """Returns the p of :func:`~attrlab.leaderboard.paired.sign_flip` of each column, below what draws resolve, too.

    All columns with as many differences other than zero share one product with the flips. Where none of the 10,000
    drawn flips reaches the observed sum, p is :func:`tail` if that is below 1 / 10,001: draws alone could not tell any
    two of more than 32 methods apart, as Holm's correction over their pairs multiplies the smallest p by 528 and more.

    Args:
        differences: ``(n_examples, n_columns)``, NaN where there is none.
        groups: Label of each example; a group's differences keep or change their signs together.
        seed: Of the draws.

    Returns:
        ``(n_columns,)``, in (0, 1], NaN for a column without a difference.
    """
    found = np.full(differences.shape[1], np.nan)
    sizes: dict[int, Floats] = {}
    sums = np.zeros(differences.shape[1])
    for column in np.flatnonzero((~np.isnan(differences)).any(axis=0)).tolist():
        own = _summed(differences[:, column], groups)
        sums[column] = abs(float(own.sum()))
        sizes[column] = np.sort(np.abs(own[own != 0]))  # to flip a zero changes nothing
    for n in {len(one) for one in sizes.values()}:
        alike = [column for column, one in sizes.items() if len(one) == n]
        found[alike] = _ps(np.stack([sizes[column] for column in alike], axis=1), sums[alike], seed)
    return found


def _summed(differences: Floats, groups: Sequence[Hashable] | None) -> Floats:
    """Returns what can be flipped alone: differences, or their sums by group; in the same order for every order."""
    sorted_by = np.lexsort((differences, np.abs(differences)))
    sorted_by = sorted_by[~np.isnan(differences[sorted_by])]
    if groups is None:
        return differences[sorted_by]
    names: dict[Hashable, int] = {}
    members = np.array([names.setdefault(name, len(names)) for name in groups])
    return np.bincount(members[sorted_by], weights=differences[sorted_by]).astype(np.float64)


def _ps(sizes: Floats, sums: Floats, seed: int) -> Floats:
    """Returns the p of columns of ``n`` sizes other than zero, ``(n, n_columns)``, with these absolute sums."""
    n, columns = sizes.shape
    if n == 0:
        return np.ones(columns)
    exact = 1 << n <= FLIPS
    totals = sizes.sum(axis=0)
    least = sums - 1e-12 * totals  # sums that are equal but for rounding reach each other
    reached, count = np.zeros(columns), 0
    for flipped in _flips(n, exact, seed):
        for start in range(0, columns, _COLUMNS):
            part = slice(start, start + _COLUMNS)
            reached[part] += (np.abs(totals[part] - 2 * (flipped @ sizes[:, part])) >= least[part]).sum(axis=0)
        count += len(flipped)
    if exact:
        return reached / count
    ps = (1 + reached) / (1 + count)
    lengths = np.sqrt((sizes**2).sum(axis=0))
    for column in np.flatnonzero(reached == 0):
        ps[column] = min(ps[column], tail(float(sums[column] / lengths[column])))
    return ps


def _flips(n: int, exact: bool, seed: int) -> Iterator[Floats]:
    return all_flips(n) if exact else drawn_flips(n, seed)


def tail(z: float) -> float:
    """Returns a bound of the p of the sign-flip test that tries every flip: at most ``2 * 3.178 P(Z >= z)``.

    ``z`` is the sum of the differences over the root of the sum of their squares, and ``Z`` standard normal. The bound
    holds for all differences and any number of them, ties or not; no smaller factor would do. So a p that is taken
    from it errs on the safe side.

    Source: Bentkus and Dzindzalieta 2015, A tight Gaussian bound for weighted sums of Rademacher random variables.

    >>> tail(0.0), round(tail(5.0), 8)
    (1.0, 1.82e-06)
    """
    return min(1.0, _TAIL * erfc(z / sqrt(2)))
