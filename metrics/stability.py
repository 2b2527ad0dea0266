"""Stability: does the same input, or one that is next to it, get the same explanation again?

Source: metrics spec 5.1 to 5.4; Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations"; Alvarez-Melis
and Jaakkola 2018, "On the Robustness of Interpretability Methods".
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.types import Case, Floats, Ints, Score
from attrlab.metrics.ranking import NO_WORDS, count, rankings, top

NO_REPLICATES = "no second explanation to compare with"
ALL_ZERO = "all scores are zero"

TOP_SHARE = 0.2
"""Share of the units whose sets are compared by the Jaccard index."""

NEGLIGIBLE = 1e-6
"""A mean score is taken for zero when it is this small beside the largest one."""


def spearman(first: Floats, second: Floats) -> float:
    """Returns the correlation of the ranks, in [-1, 1]: exactly 1 if both are bitwise equal, else NaN if one is flat.

    >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0])), 4)  # 1 - 6 * 2 / (3 * 8)
    0.5
    """
    from scipy.stats import rankdata

    if first.tobytes() == second.tobytes():
        return 1.0
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def mean_pairwise_spearman(explanations: Sequence[Floats]) -> float:
    """Returns the mean of :func:`spearman` over all pairs; NaN if it is undefined for one of them.

    >>> same, other = np.array([1.0, 2.0]), np.array([2.0, 1.0])
    >>> round(mean_pairwise_spearman([same, same, other]), 4)  # (1 - 1 - 1) / 3
    -0.3333
    """
    return float(np.mean([spearman(first, second) for first, second in combinations(explanations, 2)]))


def jaccard(first: Floats, second: Floats, tie_orders: Ints) -> float:
    """Returns the Jaccard index of the sets of the top fifth of the units, in [0, 1].

    Ties are broken by the same orders in both, the mean over the orders is returned.

    Args:
        first: ``(n_units,)``, at least one.
        second: Likewise.
        tie_orders: Permutations of the units, ``(n_permutations, n_units)``.

    >>> orders = np.array([[0, 1, 2, 3, 4, 5]])
    >>> round(jaccard(np.array([6.0, 5, 1, 2, 3, 4]), np.array([6.0, 1, 5, 2, 3, 4]), orders), 4)  # {0, 1}, {0, 2}
    0.3333
    """
    k = count(TOP_SHARE, len(first))
    a, b = (top(rankings(scores, tie_orders), k) for scores in (first, second))
    return float(((a & b).sum(1) / (a | b).sum(1)).mean())


def mean_variation(explanations: Sequence[Floats]) -> float:
    """Returns the mean over units of (standard deviation / |mean|) of their scores, in [0, inf).

    The deviation is that of a sample (n - 1). A unit whose score never changes has 0, whatever its mean. NaN if the
    mean of one whose score does is zero beside the largest one.

    >>> round(mean_variation([np.array([1.0, 5.0]), np.array([3.0, 5.0])]), 4)  # (sqrt(2) / 2 + 0) / 2
    0.3536
    """
    scores = np.stack(explanations)
    spread, means = scores.std(0, ddof=1), np.abs(scores.mean(0))
    varies = np.ptp(scores, axis=0) > 0
    if (means[varies] <= NEGLIGIBLE * means.max(initial=0.0)).any():
        return float("nan")
    return float(np.divide(spread, means, out=np.zeros_like(means), where=varies).mean())


def sensitivity_max(scores: Floats, noised: Sequence[Floats]) -> float:
    """Returns max over i of ||a_i - a|| / ||a|| (L2; a denominator of 0 becomes 1), in [0, inf).

    Args:
        scores: Explanation a of the input, ``(n_units,)``.
        noised: Explanations a_i of the noised input, at least one.

    >>> sensitivity_max(np.array([3.0, 4.0]), [np.array([3.0, 4.0]), np.array([6.0, 8.0])])
    1.0
    """
    norm = float(np.linalg.norm(scores)) or 1.0
    return max(float(np.linalg.norm(other - scores)) for other in noised) / norm


def without_replicates(case: Case) -> str | None:
    """Returns why there is nothing to compare, or None."""
    if case.n_units == 0:
        return NO_WORDS
    return None if case.replicates else NO_REPLICATES


MEASURES = ("spearman", "jaccard", "variation")


class SeedConsistency:
    """Scores how alike explanations under different seeds are.

    ``mean over pairs of seeds of Spearman(a_s, a_t)``. Higher is better. Range [-1, 1]. Bitwise equal explanations
    count as exactly 1, so a deterministic method has 1. Tied scores share their mean rank. Undefined for fewer than two
    units and where an explanation scores all units alike but differs from another. Source: metrics spec 5.4.

    Args:
        measure: ``spearman``; ``jaccard``: mean over pairs of seeds of the Jaccard index of the top ``ceil(0.2 m)``
            units, in [0, 1], ties broken by the same orders under all seeds; or ``variation``: mean over units of the
            standard deviation of the score over seeds divided by its mean's magnitude, in [0, inf), lower is better,
            undefined where such a mean is zero.
    """

    def __init__(self, *, measure: str = "spearman") -> None:
        if measure not in MEASURES:
            raise ValueError(f"measure={measure!r}; allowed: {', '.join(MEASURES)}")
        self.measure = measure

    @staticmethod
    def facts(facts: MetricFacts, *, measure: str = "spearman") -> MetricFacts:
        """Returns the facts under a measure."""
        if measure == "jaccard":
            return replace(
                facts,
                summary="Mean Jaccard index of the top fifth of the words between explanations under different seeds",
                formula="mean over pairs of seeds of |top_s and top_t| / |top_s or top_t|, k = ceil(0.2 m)",
                bounds=(0.0, 1.0),
                invariances=("scale", "monotone"),
            )
        if measure == "variation":
            return replace(
                facts,
                summary="Mean over words of the relative spread of a word's score over seeds",
                formula="mean over words j of std_s(a_sj) / |mean_s(a_sj)|",
                higher_is_better=False,
                bounds=(0.0, float("inf")),
                invariances=("scale", "sign"),
            )
        return facts

    def score(self, case: Case) -> Score:
        """Returns the score over the explanation and its replicates."""
        explanations = [case.scores, *(again.scores for again in case.replicates)]
        if reason := without_replicates(case):
            return Score.undefined(reason)
        if self.measure == "variation":
            value, reason = mean_variation(explanations), "the mean score of a word over the seeds is zero"
        elif case.n_units < 2:
            return Score.undefined("only one word")
        elif self.measure == "jaccard":
            pairs = combinations(explanations, 2)
            return Score(float(np.mean([jaccard(*pair, case.tie_orders) for pair in pairs])))
        else:
            value, reason = mean_pairwise_spearman(explanations), "all scores are equal under some seed"
        return Score.undefined(reason) if np.isnan(value) else Score(value)


class NoiseStability:
    """Scores the largest change of the explanation under small noise on the embeddings, relative to its size.

    ``max over draws i of ||a(e + d_i) - a(e)|| / ||a(e)||``. Lower is better. Range [0, inf). The harness draws d_i
    uniformly from an L-infinity ball whose radius is proportional to the spread of the model's embeddings.
    Source: Yeh et al. 2019, definition 3; metrics spec 5.1.
    """

    def score(self, case: Case) -> Score:
        """Returns the score over the replicates, which are explanations of the noised input."""
        if reason := without_replicates(case):
            return Score.undefined(reason)
        return Score(sensitivity_max(case.scores, [again.scores for again in case.replicates]))


class LocalLipschitz:
    """Scores how fast the direction of the explanation changes with the embeddings.

    ``max over draws i of ||a(e + d_i) / ||a(e + d_i)|| - a(e) / ||a(e)|| || / ||d_i||``. Lower is better. Range
    [0, inf). Only draws under which the prediction stays the same count; they are those of ``noise_stability`` and
    shared by all methods. Norms are L2; that of the noise is taken over all coordinates, so that models of other
    widths are not comparable. Undefined where no draw counts or an explanation is zero. Source: Alvarez-Melis and
    Jaakkola 2018, equation 1, on sampled neighbours; metrics spec 5.2.
    """

    def score(self, case: Case) -> Score:
        """Returns the score over the replicates, which are explanations of the noised input."""
        if reason := without_replicates(case):
            return Score.undefined(reason)
        near = [again for again in case.replicates if again.kept and again.distance > 0]
        if not near:
            return Score.undefined("no noised input keeps the prediction")
        if not all(scores.any() for scores in (case.scores, *(again.scores for again in near))):
            return Score.undefined(ALL_ZERO)
        own = _direction(case.scores)
        return Score(max(float(np.linalg.norm(_direction(one.scores) - own)) / one.distance for one in near))


def _direction(scores: Floats) -> Floats:
    return scores / np.linalg.norm(scores)


class Continuity:
    """Scores how the change of the explanation shrinks with the noise: in proportion, or not at all.

    ``slope of ln ||a(e + d) - a(e)|| over ln ||d||`` by least squares, over draws d at three radii: 1 for a smooth
    explanation, 0 for one that jumps. Higher is better. Range (-inf, inf). Undefined where the explanation does
    not change under some draw, and for fewer than two radii. Source: metrics spec 5.3.
    """

    def score(self, case: Case) -> Score:
        """Returns the score over the replicates, which are explanations under noise of several radii."""
        if reason := without_replicates(case):
            return Score.undefined(reason)
        radii = np.array([again.distance for again in case.replicates])
        changes = np.array([np.linalg.norm(again.scores - case.scores) for again in case.replicates])
        if not changes.all():
            return Score.undefined("the explanation does not change at all under some noise")
        if not np.ptp(radii) > 0:
            return Score.undefined("noise of one radius only")
        x, y = np.log(radii), np.log(changes)
        return Score(float(np.cov(x, y)[0, 1] / np.var(x, ddof=1)))
