"""Token F1 and AUPRC: agreement of an explanation with the words that people marked as the reason.

Source: DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models", section 5.1; metrics spec 4.
"""

import numpy as np

from attrlab.bench.types import Bools, Case, Floats, Score
from attrlab.metrics.ranking import NO_WORDS, count, rankings, top


def majority(rationales: Bools) -> Bools:
    """Returns the units that more than half of the annotators marked, ``(n_units,)``.

    Exactly half is no majority. An annotator who marked nothing is counted.

    >>> majority(np.array([[True, True, False], [True, False, False]])).tolist()
    [True, False, False]
    """
    return np.asarray(2 * rationales.sum(axis=0) > len(rationales))


def supporting(case: Case) -> Floats:
    """Returns how far each unit speaks for the target: max(a, 0), or a itself where scores are magnitudes."""
    return np.maximum(case.scores, 0.0) if case.signed else case.scores


def obstacle(case: Case, positive: Bools) -> str | None:
    """Returns why an explanation cannot be compared with ``positive``, or None if it can.

    A rationale justifies the gold label, an attribution the predicted class: only where both are the same class does
    the comparison mean anything (metrics spec 4.1).
    """
    if case.n_units == 0:
        return NO_WORDS
    if case.label is None:
        return "no gold label"
    if case.target != case.label:
        return "prediction differs from the label the rationale explains"
    return None if positive.any() else "no word is marked"


def f1(chosen: Bools, positive: Bools) -> float:
    """Returns 2 |A and B| / (|A| + |B|), the harmonic mean of precision and recall, in [0, 1].

    >>> f1(np.array([True, True, False, False]), np.array([True, False, True, False]))  # P = R = 1/2
    0.5
    """
    return float(2 * (chosen & positive).sum() / (chosen.sum() + positive.sum()))


def area(positive: Bools, scores: Floats) -> float:
    """Returns the area under the precision-recall curve by trapezoids, in (0, 1], as ERASER computes it.

    One point for each distinct score (equal scores enter together) and the point (recall 0, precision 1). Scores that
    are all equal therefore get (1 + r) / 2, where r is the share of positive units: much more than the r of a
    random order. Read it beside that number.

    >>> area(np.array([True, False, False, True]), np.array([4.0, 3.0, 2.0, 1.0]))  # .5 + .5 * (1/3 + 1/2) / 2
    0.7083333333333333
    """
    from sklearn.metrics import auc, precision_recall_curve

    precision, recall, _ = precision_recall_curve(positive, scores)
    return float(auc(recall, precision))


class TokenF1:
    """Scores the F1 between the k top-ranked units and the units that most annotators marked.

    ``F1 = 2 |top k and G| / (k + |G|)``. Higher is better. Range [0, 1]. Only the part of the scores that supports
    the target counts (:func:`supporting`); ties, many after that cut, are averaged over the tie orders. Undefined where
    the prediction is wrong (:func:`obstacle`) and where no unit is marked. Source: metrics spec 4.1 and 4.2.

    Args:
        k: ``avg``, ceil(mean share of marked words in the data set part * m); or ``oracle``, the number of marked
            units of the example itself.
    """

    def __init__(self, *, k: str = "avg") -> None:
        if k not in ("avg", "oracle"):
            raise ValueError(f"k={k!r}; allowed: avg, oracle")
        self.k = k

    def score(self, case: Case) -> Score:
        """Returns the score, averaged over the rankings that ties leave open."""
        if case.rationales is None:
            return Score.undefined("no rationale")
        positive = majority(case.rationales)
        reason = obstacle(case, positive)
        if reason:
            return Score.undefined(reason)
        if self.k == "oracle":
            k = int(positive.sum())
        elif case.rationale_share is None:
            return Score.undefined("the mean share of marked words is not known")
        else:
            k = count(case.rationale_share, case.n_units)
        chosen = top(rankings(supporting(case), case.tie_orders), k)
        return Score(float(np.mean([f1(row, positive) for row in chosen])))


class Auprc:
    """Scores the area under the precision-recall curve of the scores for the units that most annotators marked.

    ``sum over i of (R_i - R_(i-1)) (P_i + P_(i-1)) / 2`` along the distinct scores, highest first (:func:`area`).
    Higher is better. Range [0, 1]. Only the part of the scores that supports the target counts; undefined as in
    :class:`TokenF1`. Source: metrics spec 4.1 and 4.3.
    """

    def score(self, case: Case) -> Score:
        """Returns the score."""
        if case.rationales is None:
            return Score.undefined("no rationale")
        positive = majority(case.rationales)
        reason = obstacle(case, positive)
        return Score.undefined(reason) if reason else Score(area(positive, supporting(case)))
