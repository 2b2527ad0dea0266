"""Robustness: the same explanation for a reworded text, a rewritten network, and in any company?

Source: metrics spec 5.6 and 5.7; Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks" (implementation
invariance).
"""

import numpy as np

from attrlab.bench.types import Case, Floats, Ints, Replica, Score
from attrlab.metrics.stability import ALL_ZERO, jaccard, spearman, without_replicates

MEASURES = ("spearman", "jaccard")


class ParaphraseStability:
    """Scores how alike explanations are of a text and of the same text with a few words substituted.

    ``mean over paraphrases i of Spearman(a, a_i)`` over the words that were not substituted. Higher is better. Range
    [-1, 1]. At most a tenth of the words, at least one, are substituted by what a masked language model holds probable
    there; prediction and probability stay. Paraphrases are shared by all methods. Tied scores share their mean rank;
    bitwise equal scores count as exactly 1. Undefined where no paraphrase keeps the prediction, fewer than two words
    are left to compare, or one explanation scores them all alike and another does not. Source: metrics spec 5.6.

    Args:
        measure: ``spearman``, or ``jaccard``: of the sets of the top ``ceil(0.2 m)`` of the m words left, in [0, 1],
            ties broken by the same orders in both.
    """

    def __init__(self, *, measure: str = "spearman") -> None:
        if measure not in MEASURES:
            raise ValueError(f"measure={measure!r}; allowed: {', '.join(MEASURES)}")
        self.measure = measure

    def score(self, case: Case) -> Score:
        """Returns the score over the replicates, which are explanations of changed texts."""
        if reason := without_replicates(case):
            return Score.undefined(reason)
        shared = [_shared(case, again) for again in case.replicates]
        if min(map(len, shared)) < 2:
            return Score.undefined("fewer than two words are left to compare")
        value = float(np.mean([self._alike(case, again) for again in case.replicates]))
        return Score.undefined("all scores are equal in some explanation") if np.isnan(value) else Score(value)

    def _alike(self, case: Case, again: Replica) -> float:
        """Returns how alike the scores are of the words that both texts have."""
        left = _shared(case, again)
        first, second = case.scores[_units(case, again)[left]], again.scores[left]
        if self.measure == "spearman":
            return spearman(first, second)
        place = np.full(case.n_units, -1)
        place[_units(case, again)[left]] = np.arange(len(left))
        orders = place[case.tie_orders]
        return jaccard(first, second, orders[orders >= 0].reshape(len(orders), len(left)))


def _units(case: Case, again: Replica) -> Ints:
    return np.arange(case.n_units) if again.units is None else again.units


def _shared(case: Case, again: Replica) -> Ints:
    """Units of the changed text that stand for one of the example, ``(n_shared,)``."""
    return np.flatnonzero(_units(case, again) >= 0)


class TypoStability(ParaphraseStability):
    """Scores how alike explanations are of a text and of the same text with a few words misspelt.

    ``mean over misspelt texts i of Spearman(a, a_i)`` over the words that are spelt as before. Higher is better. Range
    [-1, 1]. In at most a tenth of the words, at least one, two neighbouring inner letters are swapped; the prediction
    stays. Misspelt texts are shared by all methods. Ties and undefined cases as for ``paraphrase_stability``.
    Source: metrics spec 5.6, with the swaps of Pruthi et al. 2019, "Combating Adversarial Misspellings".

    Args:
        measure: ``spearman``, or ``jaccard`` as for ``paraphrase_stability``.
    """


def largest_change(scores: Floats, others: list[Floats]) -> Score:
    """Returns max over j and i of |a_ij - a_j| / max over j of |a_j|; 0 if nothing changes, even if all is zero.

    >>> largest_change(np.array([1.0, -2.0]), [np.array([1.5, -2.0]), np.array([1.0, -2.0])])
    Score(value=0.25, reason=None)
    """
    change = max(float(np.abs(other - scores).max()) for other in others)
    size = float(np.abs(scores).max())
    if size == 0 and change > 0:
        return Score.undefined(ALL_ZERO)
    return Score(change / size if size else 0.0)


class BatchInvariance:
    """Scores how far an explanation depends on what else is in the batch, and on padding.

    ``max over words j and i of |a_ij - a_j| / max over j of |a_j|``, where a_1 is made alone in every batch and a_2
    with other padding. Lower is better. Range [0, inf); rounding alone makes about 1e-6. Undefined where the
    explanation is zero and another is not. Source: metrics spec 5; the checklist of a benchmark's own defects.
    """

    def score(self, case: Case) -> Score:
        """Returns the score over the replicates, which are explanations in other company."""
        if reason := without_replicates(case):
            return Score.undefined(reason)
        return largest_change(case.scores, [again.scores for again in case.replicates])


class ImplementationInvariance:
    """Scores how far an explanation changes when the network is rewritten so that it computes the same function.

    ``max over words j and rewrites i of |a_ij - a_j| / max over j of |a_j|``. Lower is better. Range [0, inf). The
    rewrites: values scaled up and taken back in the output, feed-forward units and heads permuted, a head doubled at
    half its output, the gain of a layer norm moved into the next matrix, another kernel for attention. Methods that
    ask only for answers or gradients have 0 up to rounding. Undefined where the explanation is zero and another is not.
    Source: Sundararajan et al. 2017, section 2.2; metrics spec 5.7.
    """

    def score(self, case: Case) -> Score:
        """Returns the score over the replicates, which are explanations of rewritten networks."""
        if reason := without_replicates(case):
            return Score.undefined(reason)
        return largest_change(case.scores, [again.scores for again in case.replicates])
