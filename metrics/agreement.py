"""Tau-LOO: agreement of a ranking with the effects of leaving one word out.

Source: Jain and Wallace 2019, "Attention is not Explanation"; ferret; metrics spec 1.6.
"""

import numpy as np

from attrlab.bench.types import Asker, Case, Floats, Score
from attrlab.metrics.ranking import NO_WORDS, ByRank


def kendall(first: Floats, second: Floats) -> float:
    """Returns Kendall's tau-b: (concordant - discordant) / sqrt(pairs untied in first * pairs untied in second).

    In [-1, 1]; NaN if either vector is constant.

    >>> round(kendall(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])), 4)  # 2 pairs agree, 1 does not
    0.3333
    """
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


class TauLoo(ByRank):
    """Scores the rank correlation between the attribution and the leave-one-out effects.

    ``tau_b(a_j, p(x) - p(x without j))`` over the units j. Higher is better. Range [-1, 1]. It measures agreement with
    one particular method, so it is never the only measure of faithfulness. Undefined for fewer than two units and
    where the scores or the effects are all equal (a saturated model). Source: metrics spec 1.6.

    Args:
        absolute: Compare magnitudes, ``|a_j|`` with ``|p(x) - p(x without j)|``: the only form in which unsigned
            methods can be compared.
    """

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, then each unit left out."""
        obstacle = self._obstacle(case)
        if obstacle:
            return Score.undefined(obstacle)
        without_one = ~np.eye(case.n_units, dtype=bool)
        p = yield from case.probabilities(np.vstack([np.ones((1, case.n_units), dtype=bool), without_one]))
        scores, effects = case.scores, p[0] - p[1:]
        if self.absolute:
            scores, effects = np.abs(scores), np.abs(effects)
        if np.ptp(effects) == 0:
            return Score.undefined("leaving out any one word has the same effect")
        return Score(kendall(scores, effects))

    def _obstacle(self, case: Case) -> str | None:
        if not case.signed and not self.absolute:
            return "unsigned scores: use tau_loo:absolute=true"
        if case.n_units < 2:
            return "only one word" if case.n_units else NO_WORDS
        if np.ptp(np.abs(case.scores) if self.absolute else case.scores) == 0:
            return "all scores are equal"
        return None
