"""Which units come first: ranking, ties and rounding, shared by every metric that cuts at k (metrics spec 0.3)."""

import math
from dataclasses import replace

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.types import Bools, Case, Floats, Ints

NO_WORDS = "no words to attribute"
"""Reason of an undefined score where an example has no units."""

MANY_TIES = 0.2
"""Share of tied units above which a metric is averaged over all tie orders."""


def count(share: float, n_units: int) -> int:
    """Returns how many of m units a share q stands for: k = min(m, max(1, ceil(q m - 1e-9))).

    Args:
        share: q in [0, 1].
        n_units: m, at least 1.

    >>> count(0.2, 10), count(0.01, 10), count(0.5, 3), count(1.0, 4)
    (2, 1, 2, 4)
    """
    return min(n_units, max(1, math.ceil(share * n_units - 1e-9)))


def tie_fraction(scores: Floats) -> float:
    """Returns the share of units whose score equals that of another unit, in [0, 1] (0 for no units).

    >>> tie_fraction(np.array([1.0, 1.0, 2.0, 3.0]))
    0.5
    """
    _, counts = np.unique(scores, return_counts=True)
    return float(counts[counts > 1].sum() / max(1, len(scores)))


def rankings(scores: Floats, tie_orders: Ints) -> Ints:
    """Returns the rankings to average a metric over, each the indices of the units, best first.

    Units are ranked by score, highest first; among equal scores, the unit that comes earlier in a tie order comes
    first. Positions never decide. With few ties (``tie_fraction`` at most 0.2) the first order is enough.

    Args:
        scores: ``(n_units,)``.
        tie_orders: Permutations of the units, shared by all methods, ``(n_permutations, n_units)``.

    Returns:
        int64 of shape ``(1 or n_permutations, n_units)``.

    >>> rankings(np.array([0.5, 0.5, 0.9]), np.array([[0, 1, 2], [2, 1, 0]])).tolist()
    [[2, 0, 1], [2, 1, 0]]
    """
    used = tie_orders if tie_fraction(scores) > MANY_TIES else tie_orders[:1]
    by_score = np.argsort(-scores[used], axis=1, kind="stable")
    return np.take_along_axis(used, by_score, axis=1)


def ranked_units(case: Case, *, absolute: bool = False) -> Ints:
    """Returns the :func:`rankings` of a case's units, ``(n_rankings, n_units)``.

    Args:
        case: The example and its attribution.
        absolute: Rank by magnitude, whatever the sign.
    """
    return rankings(np.abs(case.scores) if absolute else case.scores, case.tie_orders)


def ranked_facts(facts: MetricFacts, *, absolute: bool) -> MetricFacts:
    """Returns the facts of a metric of the ranking: of magnitudes, it no longer survives a shift, but a change of sign.

    >>> ranked_facts(MetricFacts(where="here:There"), absolute=True).invariances
    ('scale', 'sign')
    """
    return replace(facts, invariances=("scale", "sign") if absolute else ("scale", "monotone"))


class ByRank:
    """Base of metrics that leave it to a parameter how units are ranked: by score or by magnitude."""

    def __init__(self, *, absolute: bool = False) -> None:
        self.absolute = absolute

    @staticmethod
    def facts(base: MetricFacts, *, absolute: bool = False) -> MetricFacts:
        """Returns the facts under the given parameters."""
        return ranked_facts(base, absolute=absolute)


def top(ranked: Ints, k: int) -> Bools:
    """Returns which units are among the first k of each ranking, ``(n_rankings, n_units)``.

    >>> top(np.array([[2, 0, 1]]), 2).tolist()
    [[True, False, True]]
    """
    chosen = np.zeros(ranked.shape, dtype=bool)
    np.put_along_axis(chosen, ranked[:, :k], True, axis=1)
    return chosen
