"""Comprehensiveness and sufficiency: what erasing the top-ranked words, or all others, does to the prediction.

Source: DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models", section 5.2; metrics spec 1.1.
"""

import numpy as np

from attrlab.bench.types import Asker, Bools, Case, Floats, Ints, Score
from attrlab.metrics.ranking import NO_WORDS, count, rankings, top

BINS = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of the units that are erased (or kept): the thresholds of ERASER."""


def aopc(full: float, changed: Floats) -> float:
    """Returns the area over the perturbation curve: mean over the bins of p_full - p_q, in [-1, 1].

    The ERASER paper divides by |B| + 1 and counts the unchanged input as a bin; its released code, followed here,
    averages over the bins alone: paper comp = |B| / (|B| + 1) times ours.

    Args:
        full: Probability of the target on the full input.
        changed: Its probability on each changed input, any shape.

    >>> aopc(0.75, np.array([0.75, 0.5, 0.25]))
    0.25
    """
    return float(np.mean(full - changed))


def top_sets(ranked: Ints) -> Bools:
    """Returns the top units at every bin of every ranking, ``(n_rankings * n_bins, n_units)``.

    In a short text several bins are the same set; each stays a term of the mean, so every method has as many.

    >>> top_sets(np.array([[1, 0]])).tolist()
    [[False, True], [False, True], [False, True], [False, True], [False, True]]
    """
    n_units = ranked.shape[1]
    return np.vstack([top(ranked, count(share, n_units)) for share in BINS])


class _Erasure:
    """Base of the two: ranks, asks for the full input and all bins at once, averages."""

    keep_top: bool

    def __init__(self, *, absolute: bool = False) -> None:
        self.absolute = absolute

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, then every bin of every ranking."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        chosen = top_sets(rankings(np.abs(case.scores) if self.absolute else case.scores, case.tie_orders))
        full = np.ones((1, case.n_units), dtype=bool)
        p = yield from case.probabilities(np.vstack([full, chosen if self.keep_top else ~chosen]))
        return Score(aopc(p[0], p[1:]))


class Comprehensiveness(_Erasure):
    """Scores how much the probability of the target drops when the top-ranked units are removed.

    ``comp = mean over q in {1, 5, 10, 20, 50 %} of p(x) - p(x without its top k(q) units)``. Higher is better.
    Range [-1, 1]. Ties: see :func:`attrlab.metrics.ranking.rankings`; an explanation that scores all units alike gets
    the mean over all tie orders. Source: ERASER, section 5.2; metrics spec 1.1.

    Args:
        absolute: Rank by magnitude, whatever the sign.
    """

    keep_top = False


class Sufficiency(_Erasure):
    """Scores how much the probability of the target drops when only the top-ranked units are kept.

    ``suff = mean over q in {1, 5, 10, 20, 50 %} of p(x) - p(only the top k(q) units of x)``. Lower is better.
    Range [-1, 1]. Ties as in :class:`Comprehensiveness`. Source: ERASER, section 5.2; metrics spec 1.1.

    Args:
        absolute: Rank by magnitude, whatever the sign.
    """

    keep_top = True
