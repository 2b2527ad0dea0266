"""A proxy for ROAD: accuracy as words make way for likely ones, the most relevant first or the least relevant first.

Source: Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods" (ROAD, arXiv
2202.00449); metrics spec 2.3.
"""

from dataclasses import replace

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.operators import DRAWS
from attrlab.bench.types import Ask, Asker, Bools, Case, Score
from attrlab.metrics.erasure import top_sets
from attrlab.metrics.ranking import NO_WORDS, ranked_facts, ranked_units

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the units that are replaced."""

NOISE = 0.05
"""Chance of any other unit to be replaced as well."""

CURVES = ("area", "morf", "lerf")


class RoadProxy:
    """Scores how much longer a prediction lasts when the least relevant units are replaced first, not the most.

    ``mean over q in {10, .., 90 %} of A_lerf(q) - A_morf(q)``, where A(q) is 1 if the predicted class stays when the
    last (lerf) or first (morf) k(q) units of the ranking are replaced, averaged over the draws of what replaces them.
    Higher is better. Range [-1, 1]; its mean over a data set is the area between the two accuracy curves, accuracy
    meaning agreement with the prediction on the full input. Removed units are always replaced by samples of a masked
    language model (operator ``mlm``), and so is every unit with a chance of 5 %, the same ones for all methods, so
    that which units are replaced says less about the class. No model is retrained. Where many scores are equal, the
    mean over the tie orders. Source: Rong et al. 2022 (whose imputation is of pixels); metrics spec 2.3.

    Args:
        curve: ``area``; or one of the two curves alone, ``morf`` (then lower is better) or ``lerf``: the methods should
            come out in the same order by either.
        absolute: Rank by magnitude, whatever the sign.
    """

    def __init__(self, *, curve: str = "area", absolute: bool = False) -> None:
        if curve not in CURVES:
            raise ValueError(f"curve={curve!r}; allowed: {', '.join(CURVES)}")
        self.curve, self.absolute = curve, absolute

    @staticmethod
    def facts(base: MetricFacts, *, curve: str = "area", absolute: bool = False) -> MetricFacts:
        """Returns the facts under the given parameters."""
        base = ranked_facts(base, absolute=absolute)
        if curve == "area":
            return base
        one = str(DRAWS["mlm"] * (1 + len(SHARES)))
        return replace(base, higher_is_better=curve == "lerf", bounds=(0.0, 1.0), forwards=one)

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, then both curves of every ranking."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        ranked, noise = ranked_units(case, absolute=self.absolute), _noise(case)
        morf, lerf = top_sets(ranked, SHARES) | noise, top_sets(ranked[:, ::-1], SHARES) | noise
        removed = {"area": [lerf, morf], "lerf": [lerf], "morf": [morf]}[self.curve]
        ask = Ask.every_draw(np.vstack([np.ones((1, case.n_units), dtype=bool), *(~sets for sets in removed)]), "mlm")
        predicted = (yield ask).argmax(-1)
        accuracies = ask.mean((predicted == predicted[0]).astype(float))[1:].reshape(len(removed), -1).mean(1)
        return Score(float(accuracies[0] - accuracies[1:].sum()))


def _noise(case: Case) -> Bools:
    """The units replaced for every method; drawn along the tie order, so that no position is special."""
    drawn = np.zeros(case.n_units, dtype=bool)
    drawn[case.tie_orders[0]] = case.generator("road", "noise").random(case.n_units) < NOISE
    return drawn
