"""What plausibility can be expected: that of one annotator for the others, and that of a random order.

Both stand beside a plausibility metric, say nothing about any method, and are the same for all of them.
Source: metrics spec 4.3; DeYoung et al. 2020, section 4 (human agreement).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.registry import METRICS, Component
from attrlab.bench.types import Case, Score

DRAWS = 20
"""Random orders per example; the mean over examples soon has a far smaller error than one order gives."""


def _judged_by(of: str) -> Component[MetricFacts]:
    """Returns the metric that is meant, with its parameters.

    Raises:
        ValueError: If it is no metric of plausibility of the catalogue.
    """
    found = METRICS.entries()
    known = [name for name, facts in found.items() if facts.family == "plausibility" and facts.higher_is_better]
    if of.partition(":")[0] not in known:
        raise ValueError(f"of={of!r}; allowed: {', '.join(known)}")
    return METRICS.find(of)


class _Reference(ABC):
    """Base of the two: lets the metric score other cases made of this one, and averages.

    Args:
        of: The metric, with parameters if need be, as in ``precision_at_k:k=3``.
    """

    def __init__(self, *, of: str = "auprc") -> None:
        self.metric = _judged_by(of).build()

    @staticmethod
    def facts(facts: MetricFacts, *, of: str = "auprc") -> MetricFacts:
        """Returns the facts, in which the version of the metric counts too."""
        judge = _judged_by(of)
        return replace(facts, version=f"{facts.version}, {judge.name} {judge.facts.version}")

    def mean(self, cases: Iterable[Case]) -> Score:
        """Returns the mean score of the cases that have one."""
        found = [self.metric.score(case) for case in cases]
        values = [score.value for score in found if score.reason is None]
        return Score(float(np.mean(values))) if values else found[0]

    @abstractmethod
    def score(self, case: Case) -> Score:
        """Returns the score; whatever the explanation is."""


class HumanCeiling(_Reference):
    """Scores how well each annotator's marks, taken as an explanation, agree with the other annotators.

    ``mean over annotators i of metric(marks of i against the marks of all others)``. It only describes. Range [0, 1].
    It is what people reach under the rules of the metric, not a bound: marks are scores of 0 and 1, so a metric that
    picks k units picks them among the marked ones by the tie orders, and an explanation that orders them well may come
    out above, under average precision by far. Undefined with fewer than two annotators, for
    graded marks, and where the metric is undefined: it is the mean over the same predictions.
    Source: DeYoung et al. 2020, section 4; metrics spec 4.1.

    Args:
        of: A metric of plausibility, with parameters if need be, as in ``precision_at_k:k=3``.
    """

    def score(self, case: Case) -> Score:
        """Returns the agreement, averaged over the annotators."""
        marks = case.rationales
        if marks is None or len(marks) < 2:
            return Score.undefined("fewer than two annotators")
        return self.mean(
            replace(case, scores=own.astype(np.float64), signed=False, rationales=np.delete(marks, index, axis=0))
            for index, own in enumerate(marks)
        )


class ChanceLevel(_Reference):
    """Scores what a random order of the units gets.

    ``mean over 20 random orders of metric(order)``. It only describes. Range [0, 1]. The share of marked units is the
    chance of AUPRC and average precision in long texts only: with one of ten words marked a random order has an average
    precision of 0.29. Undefined where the metric is. Source: metrics spec 4.3.

    Args:
        of: A metric of plausibility, with parameters if need be, as in ``precision_at_k:k=3``.
    """

    def score(self, case: Case) -> Score:
        """Returns the mean over the random orders."""
        rng, places = case.generator("chance level"), np.argsort(case.tie_orders[0])
        # Ranks are dealt along the tie order, so that where a unit stands plays no part.
        orders = [rng.permutation(np.arange(1.0, case.n_units + 1))[places] for _ in range(DRAWS)]
        return self.mean(replace(case, scores=order, signed=False) for order in orders)
