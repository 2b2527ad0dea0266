"""Decision flips and effective complexity: how much of a text must go before the prediction does, or stay for it.

Source: Serrano and Smith 2019, "Is Attention Interpretable?", and Chrysostomou and Aletras 2021, "Improving the
Faithfulness of Attention-based Explanations" (decision flips); Nguyen and Martinez 2020, "On quantitative aspects of
model interpretability" (effective complexity); metrics spec 1.8 and 6.4.
"""

import numpy as np

from attrlab.bench.types import Asker, Bools, Case, Floats, Score
from attrlab.metrics.curves import Curve, CurveMetric, RankedCurveMetric, answers_without
from attrlab.metrics.ranking import NO_WORDS, ByRank, ranked_units

FIRST_AND_STABLE = ("first", "stable")


def flipped(logits: Floats) -> Bools:
    """Returns where the predicted class differs from that at the first step, ``(n_rankings, n_steps)``.

    Args:
        logits: ``(n_rankings, n_steps, n_classes)``; the first step is the full input.
    """
    predicted = logits.argmax(-1)
    return np.asarray(predicted != predicted[:, :1])


class DecisionFlipFirst(ByRank):
    """Scores whether removing the top-ranked unit changes the prediction.

    ``1 if argmax f(x without its top unit) != argmax f(x), else 0``. Higher is better. Range [0, 1]; its mean over a
    data set is the share of decisions that hang on the unit ranked first. Where many scores are equal, the mean over
    the tie orders. Source: Serrano and Smith 2019; Chrysostomou and Aletras 2021; metrics spec 1.8.

    Args:
        absolute: Rank by magnitude, whatever the sign.
    """

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, and it without the top unit."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        logits = yield from answers_without(case, ranked_units(case, absolute=self.absolute), np.arange(2))
        return Score(float(flipped(logits)[:, 1].mean()))


class DecisionFlipFraction(RankedCurveMetric):
    """Scores the share of top-ranked units that must be removed before the prediction changes.

    ``min k / m such that argmax f(x without its top k units) != argmax f(x)``. Lower is better. Range [0, 1]; 1 also
    where no k changes it. Read from every k: flips come and go, so that a bisection would miss the first. Beyond 100
    units k is a multiple of 2 %. Where many scores are equal, the mean over the tie orders.
    Source: Serrano and Smith 2019; Chrysostomou and Aletras 2021; metrics spec 1.8.

    Args:
        absolute: Rank by magnitude, whatever the sign.
    """

    keeps = False

    def read(self, curve: Curve) -> Score:
        """Returns the first flip along the deletion curve."""
        return Score(curve.first(flipped(curve.logits)))


class EffectiveComplexity(CurveMetric):
    """Scores the share of units that is enough to keep the probability of the target near that of the full input.

    ``min k / m such that p(only the top k units of x by |a|) >= share * p(x)``. Lower is better. Range [0, 1]. Units
    are ranked by magnitude. Beyond 100 units k is a multiple of 2 %. Where many scores are equal, the mean over the
    tie orders. Source: Nguyen and Martinez 2020; metrics spec 6.4.

    Args:
        share: Share of the probability that must be kept, in (0, 1].
        version: ``first``, the smallest such k; or ``stable``, the smallest from which on it holds for every larger k.
    """

    keeps = True

    def __init__(self, *, share: float = 0.9, version: str = "first") -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share={share!r}; allowed: a number in (0, 1]")
        if version not in FIRST_AND_STABLE:
            raise ValueError(f"version={version!r}; allowed: {', '.join(FIRST_AND_STABLE)}")
        self.share, self.version, self.absolute = share, version, True

    def read(self, curve: Curve) -> Score:
        """Returns the first (stable) point of the insertion curve that is high enough."""
        enough = curve.p >= self.share * curve.full
        if self.version == "stable":
            enough = np.logical_and.accumulate(enough[:, ::-1], axis=1)[:, ::-1]
        return Score(curve.first(enough))
