"""Agreement of an explanation with the words that people marked as the reason: selected words, and ranked words.

Every metric compares with a target w: per unit the share of annotators who marked it, in [0, 1]. For a target of 0
and 1 the formulas are the usual ones; with a soft target each unit counts as w marked and 1 - w unmarked ones, as if
the marks of all annotators were pooled.

Source: DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models", section 5.1; metrics spec 4.
"""

from abc import ABC, abstractmethod

import numpy as np

from attrlab.bench.types import Bools, Case, Floats, Ints, Score
from attrlab.metrics import detection
from attrlab.metrics.annotators import CHOICES, targets
from attrlab.metrics.ranking import NO_WORDS, count, rankings

PREDICTIONS = ("correct", "wrong", "all")
"""On which predictions a metric is defined."""

NO_MARK = "no word is marked"


def check(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Returns a parameter.

    Raises:
        ValueError: If it is not one of those allowed.
    """
    if value not in allowed:
        raise ValueError(f"{name}={value!r}; allowed: {', '.join(allowed)}")
    return value


def supporting(case: Case) -> Floats:
    """Returns how far each unit speaks for the target: max(a, 0), or a itself where scores are magnitudes."""
    return np.maximum(case.scores, 0.0) if case.signed else case.scores


def mismatch(case: Case, predictions: str = "correct") -> str | None:
    """Returns why no rationale can be compared with an explanation, or None if one can.

    A rationale justifies the gold label, so the explained class must be the gold label (metrics spec 4.1). Where a
    suite explains the gold label of wrong predictions too, those are kept apart from the correct ones.
    """
    if case.n_units == 0:
        return NO_WORDS
    if case.label is None:
        return "no gold label"
    if case.target != case.label:
        return "prediction differs from the label the rationale explains"
    if case.correct is False and predictions == "correct":
        return "the prediction is wrong"
    return "the prediction is right" if case.correct is not False and predictions == "wrong" else None


def obstacle(case: Case, positive: Bools) -> str | None:
    """Returns why an explanation cannot be compared with ``positive``, or None if it can."""
    return mismatch(case) or (None if positive.any() else NO_MARK)


class Plausibility(ABC):
    """Base of the metrics: finds the targets, scores against each, averages.

    Args:
        annotators: How annotators are merged, see :func:`attrlab.metrics.annotators.targets`.
        predictions: ``correct``, ``wrong`` or ``all``; wrong ones only exist where the gold label is explained.
    """

    merges: tuple[str, ...] = CHOICES

    def __init__(self, *, annotators: str = "majority", predictions: str = "correct") -> None:
        self.annotators = check("annotators", annotators, self.merges)
        self.predictions = check("predictions", predictions, PREDICTIONS)

    def score(self, case: Case) -> Score:
        """Returns the score, averaged over the targets."""
        if case.rationales is None and case.weights is None:
            return Score.undefined("no rationale")
        reason = mismatch(case, self.predictions)
        if reason:
            return Score.undefined(reason)
        if case.rationales is None and self.annotators == "each":
            return Score.undefined("graded marks do not tell who marked what")
        found = [self.against(target, case) for target in targets(case, self.annotators)]
        values = [score.value for score in found if score.reason is None]
        if values:
            return Score(float(np.mean(values)))
        return found[0] if found else Score.undefined(NO_MARK)

    @abstractmethod
    def against(self, target: Floats, case: Case) -> Score:
        """Returns the score against one target, ``(n_units,)`` in [0, 1], which is not all 0."""


class Selecting(Plausibility):
    """Base of the metrics that compare the k top-ranked units with the target.

    Args:
        k: ``avg``, ceil(mean share of marked words in the data set part * m), the same whatever the annotators; or
            ``oracle``, the number of marked units of the example itself (of a soft target: its sum, rounded up).
        annotators: As in :class:`Plausibility`.
        predictions: Likewise.
    """

    def __init__(self, *, k: str = "avg", annotators: str = "majority", predictions: str = "correct") -> None:
        super().__init__(annotators=annotators, predictions=predictions)
        self.k = check("k", k, ("avg", "oracle"))

    def against(self, target: Floats, case: Case) -> Score:
        """Returns the score, averaged over the rankings that ties leave open."""
        if self.k == "oracle":
            k = count(float(target.mean()), case.n_units)
        elif case.rationale_share is None:
            return Score.undefined("the mean share of marked words is not known")
        else:
            k = count(case.rationale_share, case.n_units)
        chosen = rankings(supporting(case), case.tie_orders)[:, :k]
        return Score(float(np.mean([self.of(np.sort(row), target, case) for row in chosen])))

    @abstractmethod
    def of(self, chosen: Ints, target: Floats, case: Case) -> float:
        """Returns the value of the chosen units, indices ``(k,)`` in ascending order."""


class TokenF1(Selecting):
    """Scores the F1 between the k top-ranked units and the marked ones.

    ``F1 = 2 h / (k + |w|)``, where h is the sum of the target w over the top k units, ``|w|`` over all.
    Higher is better. Range [0, 1]. Only the part of the scores that supports the target counts (:func:`supporting`);
    ties, many after that cut, are averaged over the tie orders. Undefined where the prediction is wrong
    (:func:`mismatch`) and where no unit is marked. Arguments as in :class:`Selecting`.
    Source: metrics spec 4.1 and 4.2.
    """

    def of(self, chosen: Ints, target: Floats, case: Case) -> float:
        """Returns the harmonic mean of precision and recall."""
        return float(2 * target[chosen].sum() / (len(chosen) + target.sum()))


class TokenPrecision(Selecting):
    """Scores the share of marked units among the k top-ranked ones.

    ``P = h / k``, h as in :class:`TokenF1`, likewise when undefined, ties and arguments. Higher is better.
    Range [0, 1]. Source: metrics spec 4.2.
    """

    def of(self, chosen: Ints, target: Floats, case: Case) -> float:
        """Returns the precision."""
        return float(target[chosen].sum() / len(chosen))


class TokenRecall(Selecting):
    """Scores the share of the marked units that are among the k top-ranked ones.

    ``R = h / |w|``, h and w as in :class:`TokenF1`, likewise when undefined, ties and arguments. Higher is better.
    Range [0, 1]. Source: metrics spec 4.2.
    """

    def of(self, chosen: Ints, target: Floats, case: Case) -> float:
        """Returns the recall."""
        return float(target[chosen].sum() / target.sum())


class TokenIou(Selecting):
    """Scores how much of the k top-ranked and the marked units together they have in common.

    ``IOU = h / (k + |w| - h)``, h and w as in :class:`TokenF1`, likewise when undefined, ties and arguments: the
    intersection over the union of two sets of units, without spans (ferret's IOU; for ERASER's see
    :class:`attrlab.metrics.spans.IouF1`). Higher is better. Range [0, 1]. Source: metrics spec 4.2.
    """

    def of(self, chosen: Ints, target: Floats, case: Case) -> float:
        """Returns the intersection over the union."""
        hits = target[chosen].sum()
        return float(hits / (len(chosen) + target.sum() - hits))


class Auprc(Plausibility):
    """Scores the area under the precision-recall curve of the scores for the marked units.

    ``sum over i of (R_i - R_(i-1)) (P_i + P_(i-1)) / 2`` along the distinct scores, highest first, from P_0 = 1
    (:func:`attrlab.metrics.detection.auprc`). Higher is better. Range [0, 1]. Only the part of the scores that supports
    the target counts; equal scores enter together; undefined as in :class:`TokenF1`. Arguments as in
    :class:`Plausibility`. Source: metrics spec 4.1 and 4.3.
    """

    def against(self, target: Floats, case: Case) -> Score:
        """Returns the area."""
        return Score(detection.auprc(target, supporting(case)))


class AveragePrecision(Plausibility):
    """Scores the mean precision at the ranks of the marked units; its mean over examples is known as MAP.

    ``AP = sum over i of (R_i - R_(i-1)) P_i``, otherwise as :class:`Auprc`. Higher is better. Range [0, 1].
    Source: metrics spec 4.3 and 4.5.
    """

    def against(self, target: Floats, case: Case) -> Score:
        """Returns the mean precision."""
        return Score(detection.average_precision(target, supporting(case)))


class Auroc(Plausibility):
    """Scores the share of pairs of a marked and an unmarked unit in which the marked one scores higher.

    ``AUROC = P(a_marked > a_unmarked) + P(a_marked = a_unmarked) / 2``, otherwise as :class:`Auprc`; a random order
    gets 1/2. Higher is better. Range [0, 1]. Undefined also where every unit is marked. Source: metrics spec 4.3.
    """

    def against(self, target: Floats, case: Case) -> Score:
        """Returns the share of pairs."""
        if target.min() == 1:
            return Score.undefined("every word is marked")
        return Score(detection.auroc(target, supporting(case)))
