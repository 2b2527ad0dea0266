"""Whether a metric orders methods alike: on other examples, under other operators, and as other metrics do.

A method's merit is the share of the other methods that it beats, example by example, ties as a half: its average rank,
also where not every method has a score of every example. Whatever increasing function is applied to a metric, merits
stay as they are; the order by means may be another one.
"""

from collections.abc import Sequence

import numpy as np

from attrlab.bench.types import Bools, Floats, Ints
from attrlab.leaderboard.judged_scores import Scores, correlation, mean
from attrlab.leaderboard.ranks import _outcomes, block_ranks
from attrlab.leaderboard.statistics import LEVEL, resamples

HALVES = 200
"""Random halves of the examples."""

FEWEST_METHODS = 3
"""Methods below which there is no order to agree on: of two, it is a coin's."""

FEWEST_EXAMPLES = 4
"""Examples below which halves say nothing."""

RESAMPLES = 1_000
"""Bootstrap resamples of a gain in rank."""


def outcomes(scores: Scores, methods: Sequence[str]) -> Floats:
    """Returns 1 where a method beats another one, 1/2 for ties, 0 elsewhere, ``(n_examples, n_methods, n_methods)``."""
    return _outcomes(np.stack([scores.of(name) for name in methods], axis=1), higher_is_better=True)


def merits(won: Floats, weights: Floats) -> Floats:
    """Returns the mean share of the other methods that each one beats, ``(n_weights, n_methods)``, NaN if it met none.

    Range [0, 1], higher is better; its average rank is ``1 + (M - 1) (1 - merit)`` if all met on all examples.

    Args:
        won: Of :func:`outcomes`.
        weights: How often each example counts, ``(n_weights, n_examples)``.
    """
    found = np.tensordot(weights, won, axes=1)
    met = found + found.swapaxes(1, 2)
    with np.errstate(invalid="ignore"):
        shares = found / met
    return np.round(mean(shares, axis=2), 12)  # equal but for the order of sums is equal


def reliability(won: Floats) -> float:
    """Returns how alike a metric orders methods on as many other examples: split-half rank correlation, stepped up.

    Spearman's correlation ``r`` of the merits on two random halves of the examples, mean over 200 such splits, becomes
    ``2 r / (1 + r)`` for the full number of examples; below zero it stays as it is. A half that ties all methods
    agrees with nothing: 0. Range [-1, 1], higher is better; NaN below 3 methods or 4 examples.

    Source: Spearman 1910; Brown 1910.

    Args:
        won: Of :func:`outcomes`.
    """
    n, m = won.shape[:2]
    if n < FEWEST_EXAMPLES or m < FEWEST_METHODS:
        return float("nan")
    rng = np.random.default_rng(n)
    order = np.argsort(rng.random((HALVES, n)), axis=1)
    halves = [np.zeros((HALVES, n)) for _ in range(2)]
    for half, own in zip(halves, (order[:, : n // 2], order[:, n // 2 : n // 2 * 2]), strict=True):
        np.put_along_axis(half, own, 1.0, axis=1)
    found = [merits(won, half) for half in halves]
    known = ~np.isnan(found).any(axis=(0, 2))
    if not known.any():
        return float("nan")
    r = float(correlation(*(block_ranks(one[known], higher_is_better=True) for one in found)).mean())
    return 2 * r / (1 + r) if r > 0 else r


def kendall(table: Floats) -> Floats:
    """Returns Kendall's tau-b of every two rows over the methods that both have a value of, ``(n_rows, n_rows)``.

    Range [-1, 1]; NaN where a row ties all those methods, or they are fewer than 3.

    Args:
        table: ``(n_rows, n_methods)``, NaN where a method has no value.
    """
    known = ~np.isnan(table)
    signs = np.sign(table[:, :, None] - table[:, None, :])
    order = np.nan_to_num(signs, nan=0.0).reshape(len(table), -1)
    both = (known[:, :, None] & known[:, None, :]).reshape(len(table), -1).astype(np.float64)
    told = order**2 @ both.T  # pairs that the row orders, among the methods that the column knows
    with np.errstate(invalid="ignore", divide="ignore"):
        found = order @ order.T / np.sqrt(told * told.T)
    few = known.astype(np.int64) @ known.T.astype(np.int64) < FEWEST_METHODS
    found[few | (told * told.T == 0)] = np.nan
    return np.asarray(found.clip(-1.0, 1.0))


def clustered(taus: Floats) -> list[int]:
    """Returns the rows of an agreement matrix in an order that puts like next to like.

    Average linkage on ``1 - tau``, no agreement where it is not known, leaves ordered so that neighbours are near.
    Source: Bar-Joseph et al. 2001, Fast optimal leaf ordering for hierarchical clustering.
    """
    if len(taus) < 3:
        return list(range(len(taus)))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    apart = 1 - np.nan_to_num(taus, nan=0.0)
    np.fill_diagonal(apart, 0.0)
    order: list[int] = leaves_list(linkage(squareform(apart, checks=False), "average", optimal_ordering=True)).tolist()
    return order


def gain(own: Floats, others: Sequence[Floats], matching: Bools) -> tuple[float, float, float]:
    """Returns how many ranks methods gain where the metric removes words as they do, with its 95 % interval.

    Mean rank of the matching methods under the other operators less that under their own; what they gain, the others
    lose. Positive is better for them; at most ``M / 2`` in size. The interval is a percentile bootstrap over examples.

    Args:
        own: Of :func:`outcomes`, under the operator of the matching methods.
        others: The same under each other operator, of the same examples and methods.
        matching: Whether each method asks under that operator, ``(n_methods,)``.
    """
    n, m = own.shape[:2]

    def ranks(won: Floats, weights: Floats) -> Floats:
        return mean((1 + (m - 1) * (1 - merits(won, weights)))[:, matching], axis=1)

    def gained(weights: Floats) -> Floats:
        return mean(np.stack([ranks(won, weights) for won in others]), axis=0) - ranks(own, weights)

    value = float(gained(np.ones((1, n)))[0])
    drawn = [gained(counts(rows, n)) for rows in resamples(n, RESAMPLES)] if n > 1 else []
    known = np.concatenate([np.zeros(0), *drawn])
    known = known[~np.isnan(known)]
    if len(known) == 0:
        return value, float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return value, low, high


def counts(rows: Ints, n: int) -> Floats:
    """Returns how often each of ``n`` examples was drawn, ``(n_resamples, n)``.

    >>> counts(np.array([[0, 0, 2]]), 3).tolist()
    [[2.0, 0.0, 1.0]]
    """
    return np.stack([np.bincount(one, minlength=n) for one in rows]).astype(np.float64)
