"""Deletion and insertion curves: what a model answers while units are taken away, or put back, most important first.

One set of answers serves every metric that reads a whole curve (metrics spec 0.7): areas, flips, complexity. They are
kept as logits, so that a probability, an arg-max and the distribution over all classes come from the same questions.

Source: Petsiuk et al. 2018, "RISE"; metrics spec 0.7 and 1.5.
"""

from dataclasses import dataclass, replace

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.scalars import scalar
from attrlab.bench.types import Asker, Bools, Case, Floats, Ints, Score
from attrlab.metrics.ranking import NO_WORDS, ByRank, count, ranked_facts, ranked_units, top

DENSE = 100
"""Most units of a text whose curve has a point for every k; a longer one has a grid."""

GRID = 50
"""Steps of the grid of a longer text: a point at k = 0 and one at every 2 %."""

LEAST_RANGE = 1e-6
"""Denominators below this are taken for 0 (metrics spec 0.6)."""


def steps(n_units: int) -> Ints:
    """Returns the numbers k of units at which a curve has its points, from 0 to m.

    >>> steps(3).tolist(), len(steps(100)), len(steps(101)), steps(200)[:3].tolist()
    ([0, 1, 2, 3], 101, 51, [0, 4, 8])
    """
    if n_units <= DENSE:
        return np.arange(n_units + 1)
    return np.array([0, *(count(step / GRID, n_units) for step in range(1, GRID + 1))])


def answers_without(case: Case, ranked: Ints, counts: Ints) -> Asker[Floats]:
    """Asks, in one batch, what remains when the first k units of each ranking are removed.

    Args:
        case: The example.
        ranked: Units in the order of their removal, ``(n_rankings, n_units)``.
        counts: The numbers k, ``(n_steps,)``.

    Returns:
        Logits, ``(n_rankings, n_steps, n_classes)``.
    """
    removed = np.stack([top(ranked, k) for k in counts.tolist()], axis=1)
    logits = yield from case.ask(~removed.reshape(-1, case.n_units))
    return logits.reshape(len(ranked), len(counts), -1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """The answers along the rankings of one explanation.

    Attributes:
        counts: k, the number of top units that are removed (or kept), from 0 to m, ``(n_steps,)``.
        logits: Answers, ``(n_rankings, n_steps, n_classes)``.
        target: The class that was explained.
        keeps: The top k are kept (insertion), rather than removed (deletion).
    """

    counts: Ints
    logits: Floats
    target: int
    keeps: bool

    @property
    def p(self) -> Floats:
        """Probability of the target: D_k or, of an insertion curve, I_k, ``(n_rankings, n_steps)``, in [0, 1]."""
        return scalar("prob", self.logits, self.target)

    @property
    def shares(self) -> Floats:
        """Shares k / m, ``(n_steps,)``."""
        return np.asarray(self.counts / self.counts[-1])

    @property
    def full(self) -> float:
        """Probability of the target on the full input."""
        return float(self.p[0, -1 if self.keeps else 0])

    @property
    def empty(self) -> float:
        """Probability of the target with every unit removed."""
        return float(self.p[0, 0 if self.keeps else -1])

    def first(self, holds: Bools) -> float:
        """Returns the smallest k / m at which something holds, 1 where it never does, averaged over the rankings.

        Args:
            holds: ``(n_rankings, n_steps)``.
        """
        return float(np.where(holds, self.shares, 1.0).min(axis=1).mean())


def deletion(case: Case, ranked: Ints) -> Asker[Curve]:
    """Asks for the curve D_k: the top k units removed, k = 0 to m."""
    counts = steps(case.n_units)
    logits = yield from answers_without(case, ranked, counts)
    return Curve(counts=counts, logits=logits, target=case.target, keeps=False)


def insertion(case: Case, ranked: Ints) -> Asker[Curve]:
    """Asks for the curve I_k: only the top k units kept, k = 0 to m.

    To keep the top k is to remove the last m - k of the ranking.
    """
    counts = steps(case.n_units)
    logits = yield from answers_without(case, ranked[:, ::-1], (case.n_units - counts)[::-1])
    return Curve(counts=counts, logits=logits[:, ::-1], target=case.target, keeps=True)


class CurveMetric:
    """Base of the metrics that read one curve.

    Attributes:
        keeps: It is the insertion curve, rather than the deletion curve.
        absolute: Units are ranked by magnitude.
    """

    keeps: bool
    absolute: bool

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: every point of the curve, for every ranking."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        curve = yield from (insertion if self.keeps else deletion)(case, ranked_units(case, absolute=self.absolute))
        return self.read(curve)

    def read(self, curve: Curve) -> Score:
        """Returns what the curve says."""
        raise NotImplementedError


class RankedCurveMetric(ByRank, CurveMetric):
    """Base of those that leave it to a parameter how units are ranked."""


def auc(curve: Curve) -> float:
    """Returns the area under the probability against k / m by trapezoids, in [0, 1], averaged over the rankings.

    >>> logits = np.log([[[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]]])
    >>> round(auc(Curve(counts=np.arange(3), logits=logits, target=1, keeps=False)), 4)  # (.8 / 2 + .6 + .1 / 2) / 2
    0.525
    """
    return float(np.mean(np.trapezoid(curve.p, curve.counts) / curve.counts[-1]))


class _Auc(RankedCurveMetric):
    """Base of the two areas."""

    def __init__(self, *, normalised: bool = False, absolute: bool = False) -> None:
        super().__init__(absolute=absolute)
        self.normalised = normalised

    @staticmethod
    def facts(base: MetricFacts, *, normalised: bool = False, absolute: bool = False) -> MetricFacts:
        """Returns the facts under the given parameters: a normalised area has no bounds."""
        base = ranked_facts(base, absolute=absolute)
        return replace(base, bounds=(float("-inf"), float("inf"))) if normalised else base

    def read(self, curve: Curve) -> Score:
        """Returns the area, as it is or normalised."""
        if not self.normalised:
            return Score(auc(curve))
        spread = curve.full - curve.empty
        if abs(spread) < LEAST_RANGE:
            return Score.undefined("removing every word changes nothing")
        return Score((auc(curve) - curve.empty) / spread)


class DeletionAuc(_Auc):
    """Scores the area under the target's probability while units are removed, the top-ranked first.

    ``AUC = trapezoids of D_k over k / m, k = 0..m`` with D_k = p(x without its top k units). Lower is better.
    Range [0, 1]. Beyond 100 units the curve has 51 points. Ties are averaged over the tie orders where many scores are
    equal. Undefined, if normalised, where removing every unit moves the probability by less than 1e-6.
    Source: Petsiuk et al. 2018, RISE; metrics spec 1.5.

    Args:
        normalised: Give ``(AUC - p_empty) / (p_full - p_empty)``: 0 where the first unit does what all of them do,
            and unbounded, as a curve may leave the span between its ends.
        absolute: Rank by magnitude, whatever the sign.
    """

    keeps = False


class InsertionAuc(_Auc):
    """Scores the area under the target's probability while units are put back, the top-ranked first.

    ``AUC = trapezoids of I_k over k / m, k = 0..m`` with I_k = p(only the top k units of x). Higher is better.
    Range [0, 1]. Grid, ties and what is undefined as in :class:`DeletionAuc`.
    Source: Petsiuk et al. 2018, RISE; metrics spec 1.5.

    Args:
        normalised: Give ``(AUC - p_empty) / (p_full - p_empty)``: 1 where the first unit does what all of them do.
        absolute: Rank by magnitude, whatever the sign.
    """

    keeps = True
