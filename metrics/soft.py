"""Soft comprehensiveness and sufficiency: words are weakened in proportion to their scores instead of being cut off.

Source: Zhao and Aletras 2023, "Incorporating Attribution Importance for Improving Faithfulness Metrics"; metrics
spec 1.7. For equal mass: Huang and Chan, arXiv 2601.03089.
"""

from dataclasses import replace

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.scalars import scalar
from attrlab.bench.types import Ask, Asker, Case, Floats, Score
from attrlab.metrics.ranking import NO_WORDS

WEIGHTS, MASSES = ("score", "rank"), ("equal", "raw")

LEAST = 1e-4
"""Smallest drop from the full input to the empty one that a drop can be a share of."""


def raw_weights(values: Floats) -> Floats:
    """Returns (a - min a) / (max a - min a), in [0, 1]; 0.5 for all where all are equal.

    >>> raw_weights(np.array([-1.0, 0.0, 3.0])).tolist()
    [0.0, 0.25, 1.0]
    """
    spread = np.ptp(values)
    return np.asarray((values - values.min()) / spread) if spread else np.full(len(values), 0.5)


def equal_weights(values: Floats) -> Floats:
    """Returns 0.5 + (a - mean a) / (2 max |a - mean a|): in [0, 1], of mean 0.5, spread as far as that allows.

    >>> equal_weights(np.array([-1.0, 0.0, 4.0, 1.0, -4.0])).tolist()
    [0.375, 0.5, 1.0, 0.625, 0.0]
    """
    if not np.ptp(values):
        return np.full(len(values), 0.5)
    centred = values - values.mean()
    return np.asarray(np.clip(0.5 + centred / (2 * np.abs(centred).max()), 0, 1))


def ranks(values: Floats) -> Floats:
    """Returns rank / m of each value, 1 for the largest; equal values share the mean of their ranks.

    >>> ranks(np.array([5.0, -2.0, 5.0, 0.0])).tolist()
    [0.875, 0.25, 0.875, 0.5]
    """
    from scipy.stats import rankdata

    return np.asarray(rankdata(values) / len(values))


def lost(full: float, empty: float, soft: Floats) -> Floats:
    """Returns which share of the drop from full to empty input the weakened inputs lose, cut to [0, 1].

    That is SoftNC of Zhao and Aletras, and 1 - SoftNS: with S = 1 - max(0, p_full - p), as full > empty,
    (S - S_0) / (1 - S_0) = 1 - max(0, p_full - p) / (p_full - p_0).

    >>> lost(0.75, 0.25, np.array([0.875, 0.5, 0.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.asarray(np.clip((full - soft) / (full - empty), 0, 1))


class _Soft:
    """Base of the two: turns scores into weights, asks for all draws at once, averages."""

    keeps_important: bool

    def __init__(self, *, weights: str = "score", mass: str = "equal", draws: int = 16) -> None:
        if weights not in WEIGHTS:
            raise ValueError(f"weights={weights!r}; allowed: {', '.join(WEIGHTS)}")
        if mass not in MASSES:
            raise ValueError(f"mass={mass!r}; allowed: {', '.join(MASSES)}")
        if draws < 1:
            raise ValueError(f"draws={draws}; allowed: 1 and more")
        self.weights, self.mass, self.draws = weights, mass, draws

    @staticmethod
    def facts(base: MetricFacts, *, weights: str = "score", mass: str = "equal", draws: int = 16) -> MetricFacts:
        """Returns the facts at these parameters: ranks survive more than scores do."""
        return replace(base, invariances=("scale", "monotone")) if weights == "rank" else base

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, the empty one, then every draw."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        chances = self.importance(case.scores) if self.keeps_important else 1 - self.importance(case.scores)
        keep = np.vstack([np.ones(case.n_units), np.zeros(case.n_units), *[chances] * self.draws])
        logits = yield Ask(keep=keep, operator="zero", draw=np.append([0, 0], np.arange(self.draws)))
        full, empty, *soft = scalar("prob", logits, case.target).tolist()
        if full - empty < LEAST:
            return Score.undefined("without any word the target is about as probable")
        share = float(lost(full, empty, np.array(soft)).mean())
        return Score(1 - share if self.keeps_important else share)

    def importance(self, scores: Floats) -> Floats:
        """Returns the weight w of each unit, ``(n_units,)`` in [0, 1]; equal scores have equal weights.

        Args:
            scores: ``(n_units,)``.
        """
        if self.mass == "equal":
            return equal_weights(ranks(scores) if self.weights == "rank" else scores)
        return ranks(scores) if self.weights == "rank" else raw_weights(scores)


class SoftComprehensiveness(_Soft):
    """Scores how much of the target's probability is lost when units are weakened, the important ones most.

    ``softNC = mean over draws of max(0, p(x) - p(x')) / (p(x) - p(0))``, cut to [0, 1]: in x' each coordinate of the
    word embeddings of unit j is kept with probability 1 - w_j and else 0, in 0 all are 0. Higher is better.
    Range [0, 1]. The weights w in [0, 1] are made of the scores. Those of the paper (``mass=raw``) are min-max scaled:
    how much of the input is kept then depends on how the scores are distributed, and so does the value, whatever is
    kept. By default (``mass=equal``) the weights have mean 0.5, ``w_j = 0.5 + (a_j - mean a) / (2 max |a - mean a|)``,
    so that all methods keep equally many units and only differ in which. Undefined where p(x) - p(0) < 1e-4. Ties:
    equal scores have equal weights; where all are equal, each is 0.5. Source: Zhao and Aletras 2023;
    metrics spec 1.7.

    Args:
        weights: ``score``, or ``rank``: the rank over m (1 is the highest, equal scores share their mean rank) in
            place of each score.
        mass: ``equal`` or ``raw``.
        draws: Over which the score is averaged; the same ones for all methods.
    """

    keeps_important = False


class SoftSufficiency(_Soft):
    """Scores how much of the target's probability is left when units are weakened, the important ones least.

    ``softNS = 1 - mean over draws of max(0, p(x) - p(x')) / (p(x) - p(0))``, cut to [0, 1]: in x' each coordinate of
    the word embeddings of unit j is kept with probability w_j and else 0, in 0 all are 0. Higher is better.
    Range [0, 1]. Weights, ties and undefined scores as in :class:`SoftComprehensiveness`. Source: Zhao and Aletras
    2023; metrics spec 1.7.

    Args:
        weights: ``score`` or ``rank``.
        mass: ``equal`` or ``raw``.
        draws: Over which the score is averaged; the same ones for all methods.
    """

    keeps_important = True
