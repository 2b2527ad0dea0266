"""Planted recall: does an explanation find the words that decide the label by construction?

Source: Ribeiro et al. 2016, "Why Should I Trust You?", section 5.2; Bastings et al. 2022; metrics spec 7.1.
"""

import numpy as np

from attrlab.bench.types import Bools, Case, Score
from attrlab.metrics.plausibility import obstacle
from attrlab.metrics.ranking import rankings, top


def recall(chosen: Bools, planted: Bools) -> float:
    """Returns |chosen and planted| / |planted|, in [0, 1].

    >>> recall(np.array([True, True, False]), np.array([True, False, True]))
    0.5
    """
    return float((chosen & planted).sum() / planted.sum())


class PlantedRecall:
    """Scores the share of the planted units G among the |G| top-ranked units.

    ``recall = |top |G| and G| / |G|``. Higher is better. Range [0, 1]; a random order gets |G| / m. Ties are averaged
    over the tie orders. Only where the model predicts the label that G decides is G taken to be what the model used;
    elsewhere the score is undefined. Source: metrics spec 7.1.
    """

    def score(self, case: Case) -> Score:
        """Returns the score, averaged over the rankings that ties leave open."""
        if case.rationales is None:
            return Score.undefined("no planted words")
        planted = case.rationales[0]
        reason = obstacle(case, planted)
        if reason:
            return Score.undefined(reason)
        chosen = top(rankings(case.scores, case.tie_orders), int(planted.sum()))
        return Score(float(np.mean([recall(row, planted) for row in chosen])))
