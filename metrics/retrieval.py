"""Precision and recall at k, and the rank of the first marked word: an explanation as a search for the marked words.

Source: metrics spec 4.4 and 4.5.
"""

import numpy as np

from attrlab.bench.types import Case, Floats, Score
from attrlab.metrics.annotators import CHOICES
from attrlab.metrics.plausibility import Plausibility, supporting
from attrlab.metrics.ranking import rankings


class _AtK(Plausibility):
    """Base of the two: how much of the target is among the k top-ranked units."""

    def __init__(self, *, k: int = 1, annotators: str = "majority", predictions: str = "correct") -> None:
        super().__init__(annotators=annotators, predictions=predictions)
        if k < 1:
            raise ValueError(f"k={k}; allowed: 1 or more")
        self.k = k

    def hits(self, target: Floats, case: Case) -> float:
        """Returns the sum of the target over the top k units, averaged over the rankings that ties leave open."""
        ranked = rankings(supporting(case), case.tie_orders)
        return float(target[ranked[:, : self.k]].sum(axis=1).mean())


class PrecisionAtK(_AtK):
    """Scores the share of marked units among the k top-ranked ones, k being the same for every example.

    ``P@k = h / min(k, m)``, where h is the sum of the target over the top k units. Higher is better. Range [0, 1].
    Ties are averaged over the tie orders; undefined as in :class:`attrlab.metrics.plausibility.TokenF1`.
    Source: metrics spec 4.4.

    Args:
        k: Number of units, at least 1; all of them in a shorter text.
        annotators: As in :class:`attrlab.metrics.plausibility.Plausibility`.
        predictions: Likewise.
    """

    def against(self, target: Floats, case: Case) -> Score:
        """Returns the precision."""
        return Score(self.hits(target, case) / min(self.k, case.n_units))


class RecallAtK(_AtK):
    """Scores the share of the marked units that are among the k top-ranked ones, k being the same for every example.

    ``R@k = h / |w|``, where h is the sum of the target w over the top k units, ``|w|`` over all: with fewer than
    ``|w|`` units it cannot reach 1. Otherwise as :class:`PrecisionAtK`. Higher is better. Range [0, 1].
    Source: metrics spec 4.4.
    """

    def against(self, target: Floats, case: Case) -> Score:
        """Returns the recall."""
        return Score(self.hits(target, case) / float(target.sum()))


class ReciprocalRank(Plausibility):
    """Scores how early the first marked unit comes; its mean over examples is known as MRR.

    ``RR = 1 / rank of the best-ranked marked unit``. Higher is better. Range [0, 1]. Ties are averaged over the tie
    orders; undefined as in :class:`attrlab.metrics.plausibility.TokenF1`. A soft target has no first marked unit.
    Arguments as in :class:`attrlab.metrics.plausibility.Plausibility`. Source: metrics spec 4.5.
    """

    merges = tuple(choice for choice in CHOICES if choice != "soft")

    def against(self, target: Floats, case: Case) -> Score:
        """Returns the reciprocal rank."""
        ranked = rankings(supporting(case), case.tie_orders)
        return Score(float(np.mean(1 / (1 + target[ranked].argmax(axis=1)))))
