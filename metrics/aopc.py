"""Dense AOPC, and AOPC relative to the best and the worst order in which a text can be erased.

Source: Samek et al. 2017, "Evaluating the Visualization of What a Deep Neural Network Has Learned" (AOPC); Edin et al.
2025, "Normalized AOPC: Fixing Misleading Faithfulness Metrics" (arXiv 2408.08137); metrics spec 1.2 and 1.3.
"""

from typing import NamedTuple

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.types import Asker, Bools, Case, Floats, Score
from attrlab.metrics.curves import DENSE, LEAST_RANGE, Curve, RankedCurveMetric, deletion
from attrlab.metrics.ranking import NO_WORDS, ranked_facts, ranked_units

MOST_EXACT = 16
"""Most units for which all subsets may be asked about."""

TOO_LONG = f"more than {DENSE} words: too many orders to search"


def dense_aopc(curve: Curve) -> Floats:
    """Returns (1 / m) sum over k = 1..m of p_full - p_k of each ranking, ``(n_rankings,)``, in [-1, 1].

    On the grid of a long text every point stands for the k since the last one.

    >>> logits = np.log([[[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]]])
    >>> dense_aopc(Curve(counts=np.arange(3), logits=logits, target=1, keeps=False)).round(4).tolist()
    [0.45]
    """
    return np.asarray((curve.full - curve.p[:, 1:]) @ np.diff(curve.counts) / curve.counts[-1])


class _Aopc(RankedCurveMetric):
    def read(self, curve: Curve) -> Score:
        """Returns the mean over the rankings."""
        return Score(float(dense_aopc(curve).mean()))


class AopcComprehensiveness(_Aopc):
    """Scores how much the probability of the target drops as units are removed one by one, top-ranked first.

    ``(1/m) sum over k = 1..m of p(x) - p(x without its top k units)``. Higher is better. Range [-1, 1]. Beyond 100
    units k takes 50 values. Where many scores are equal, the mean over the tie orders.
    Source: Samek et al. 2017 (whose mean also counts k = 0); metrics spec 1.2.

    Args:
        absolute: Rank by magnitude, whatever the sign.
    """

    keeps = False


class AopcSufficiency(_Aopc):
    """Scores how much the probability of the target falls short as units are put back one by one, top-ranked first.

    ``(1/m) sum over k = 1..m of p(x) - p(only the top k units of x)``. Lower is better. Range [-1, 1]. Grid and ties
    as in :class:`AopcComprehensiveness`. Source: metrics spec 1.2.

    Args:
        absolute: Rank by magnitude, whatever the sign.
    """

    keeps = True


def subset_bounds(gains: Floats) -> tuple[float, float]:
    """Returns the lowest and highest dense AOPC over all orders of m units, exactly, from all 2^m subsets.

    ``V(Z) = g(Z) + max over j in Z of V(Z without j)``, ``V({}) = 0``; the highest is V(all units) / m, and the lowest
    the same with min (metrics spec 1.3).

    Args:
        gains: g(Z), p(x) - p(x without the units of Z), ``(2**m,)``: bit j of an index is unit j of Z.

    >>> subset_bounds(np.array([0.0, 0.5, 0.25, 0.75]))  # (0.25 + 0.75) / 2 and (0.5 + 0.75) / 2
    (0.5, 0.625)
    """
    n_units = len(gains).bit_length() - 1
    bits = 1 << np.arange(n_units)
    members = (np.arange(len(gains))[:, None] & bits) != 0
    sizes = members.sum(1)
    low, high = np.zeros_like(gains), np.zeros_like(gains)
    for size in range(1, n_units + 1):
        sets = np.flatnonzero(sizes == size)
        before = (sets[:, None] ^ bits)[members[sets]].reshape(-1, size)
        low[sets] = gains[sets] + low[before].min(1)
        high[sets] = gains[sets] + high[before].max(1)
    return float(low[-1]) / n_units, float(high[-1]) / n_units


class Beam(NamedTuple):
    """Sets of removed units and, for each, the best sum of gains over the ways that were searched.

    Attributes:
        sets: ``(n_sets, n_units)``.
        values: ``(n_sets,)``.
    """

    sets: Bools
    values: Floats

    def extended(self) -> "Beam":
        """Returns all sets with one unit more, each with the best value of the sets it can come from.

        >>> beam = Beam(np.array([[True, False, False], [False, True, False]]), np.array([0.5, 0.75]))
        >>> [part.tolist() for part in beam.extended()]
        [[[False, True, True], [True, False, True], [True, True, False]], [0.75, 0.5, 0.75]]
        """
        parents, units = np.nonzero(~self.sets)
        children = self.sets[parents]
        children[np.arange(len(units)), units] = True
        sets, which = np.unique(children, axis=0, return_inverse=True)
        values = np.full(len(sets), -np.inf)
        np.maximum.at(values, which.ravel(), self.values[parents])
        return Beam(sets, values)

    def best(self, gains: Floats, width: int) -> "Beam":
        """Returns the sets with the highest values after the gain of each is added; at most ``width``."""
        values = self.values + gains
        chosen = np.argsort(-values, kind="stable")[:width]
        return Beam(self.sets[chosen], values[chosen])


def searched_bounds(case: Case, full: float, width: int) -> Asker[tuple[float, float]]:
    """Asks for the lowest and highest dense AOPC that a beam search over orders finds, one level k at a time.

    Some order has each of the two, but others may lie outside: they are inner bounds.

    Args:
        case: The example; its explanation is not looked at.
        full: Probability of the target on the full input.
        width: Sets that are kept at each level and for each of the two.
    """
    m = case.n_units
    place = np.argsort(case.tie_orders[0])  # equal values are decided by the tie order, not by the position
    start = Beam(np.zeros((1, m), dtype=bool), np.zeros(1))
    high, low = start, start  # low holds sums with their sign changed, so that its best are the lowest
    for _ in range(m):
        high, low = high.extended(), low.extended()
        removed = np.vstack([high.sets, low.sets])[:, place]
        gains = full - (yield from case.probabilities(~removed))
        up, down = np.split(gains, [len(high.sets)])
        high, low = high.best(up, width), low.best(-down, width)
    return -float(low.values[0]) / m, float(high.values[0]) / m


def enumerated_bounds(case: Case) -> Asker[tuple[float, float]]:
    """Asks about every subset of the units, for the lowest and highest dense AOPC of all orders."""
    removed = (np.arange(2**case.n_units)[:, None] >> np.arange(case.n_units) & 1).astype(bool)
    p = yield from case.probabilities(~removed)
    return subset_bounds(p[0] - p)


class _Naopc:
    """Base of the two: the order of removal is all that differs."""

    ascending: bool

    def __init__(self, *, exact: int = 12, width: int = 5, absolute: bool = False) -> None:
        if not 0 <= exact <= MOST_EXACT:
            raise ValueError(f"exact={exact}; allowed: 0 to {MOST_EXACT}")
        if width < 1:
            raise ValueError(f"width={width}; allowed: 1 or more")
        self.exact, self.width, self.absolute = exact, width, absolute

    @staticmethod
    def facts(base: MetricFacts, *, absolute: bool = False, **_: int) -> MetricFacts:
        """Returns the facts under the given parameters."""
        return ranked_facts(base, absolute=absolute)

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after the questions of the curve, then those of the bounds."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        if case.n_units > DENSE:
            return Score.undefined(TOO_LONG)
        ranked = ranked_units(case, absolute=self.absolute)
        curve = yield from deletion(case, ranked[:, ::-1] if self.ascending else ranked)
        if case.n_units <= self.exact:
            low, high = yield from enumerated_bounds(case)
        else:
            low, high = yield from searched_bounds(case, curve.full, self.width)
        if high - low < LEAST_RANGE:
            return Score.undefined("every order of removal does the same")
        return Score(float(np.clip((dense_aopc(curve) - low) / (high - low), 0.0, 1.0).mean()))


class NaopcComprehensiveness(_Naopc):
    """Scores the dense AOPC of a ranking between the worst and the best order of removal of that text.

    ``(AOPC - low) / (up - low)``, AOPC as in :class:`AopcComprehensiveness`, low and up its extremes over all m!
    orders. Higher is better. Range [0, 1]. On one text and model it is AOPC on another scale; unlike AOPC it can be
    compared between models. The extremes are exact up to ``exact`` units; above, a beam search finds them or less, and
    a ranking that beats it counts as 0 or 1. Undefined where all orders give the same within 1e-6 (always for one
    unit), and beyond 100 units. Where many scores are equal, the mean over the tie orders.
    Source: Edin et al. 2025; metrics spec 1.3.

    Args:
        exact: Most units for which all 2^m subsets are asked about.
        width: Width of the beam for longer texts.
        absolute: Rank by magnitude, whatever the sign.
    """

    ascending = False


class NaopcSufficiency(_Naopc):
    """Scores the dense AOPC of removing the lowest-ranked units first, between the worst and the best order.

    ``(AOPC - low) / (up - low)``, AOPC as in :class:`NaopcComprehensiveness` but of the reversed ranking: the sum over
    k = 0..m-1 of p(x) - p(only the top k units of x), over m. Lower is better. Range [0, 1]. Bounds, ties and what is
    undefined as there. Source: Edin et al. 2025; metrics spec 1.3.

    Args:
        exact: Most units for which all 2^m subsets are asked about.
        width: Width of the beam for longer texts.
        absolute: Rank by magnitude, whatever the sign.
    """

    ascending = True
