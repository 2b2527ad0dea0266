"""Seed consistency and noise stability: does the same input get the same explanation again?

Source: metrics spec 5.4; Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations"; metrics spec 5.1.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from attrlab.bench.types import Case, Floats, Score
from attrlab.metrics.ranking import NO_WORDS

NO_REPLICATES = "no second explanation to compare with"


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


class SeedConsistency:
    """Scores how alike the rankings of explanations under different seeds are.

    ``mean over pairs of seeds of Spearman(a_s, a_t)``. Higher is better. Range [-1, 1]. Bitwise equal explanations
    count as exactly 1, so a deterministic method has 1; undefined for fewer than two units and where an explanation
    scores all units alike but differs from another. Source: metrics spec 5.4.
    """

    def score(self, case: Case) -> Score:
        """Returns the score over the explanation and its replicates."""
        if case.n_units < 2:
            return Score.undefined("only one word" if case.n_units else NO_WORDS)
        if not case.replicates:
            return Score.undefined(NO_REPLICATES)
        value = mean_pairwise_spearman([case.scores, *(again.scores for again in case.replicates)])
        return Score.undefined("all scores are equal under some seed") if np.isnan(value) else Score(value)


class NoiseStability:
    """Scores the largest change of the explanation under small noise on the embeddings, relative to its size.

    ``max over draws i of ||a(e + d_i) - a(e)|| / ||a(e)||``. Lower is better. Range [0, inf). The harness draws d_i
    uniformly from an L-infinity ball whose radius is proportional to the spread of the model's embeddings.
    Source: Yeh et al. 2019, definition 3; metrics spec 5.1.
    """

    def score(self, case: Case) -> Score:
        """Returns the score over the replicates, which are explanations of the noised input."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        if not case.replicates:
            return Score.undefined(NO_REPLICATES)
        return Score(sensitivity_max(case.scores, [again.scores for again in case.replicates]))
