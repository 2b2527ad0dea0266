"""Axioms: what moves the answer must have a score, and scores that claim a total must add up to it.

Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks" (sensitivity, completeness); Ali et al.
2022, "XAI for Transformers: Better Explanations through Conservative Propagation"; metrics spec 6.1 and 6.5.
"""

from dataclasses import replace

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.operators import DRAWS, OPERATORS
from attrlab.bench.types import Asker, Case, Score
from attrlab.metrics.ranking import NO_WORDS
from attrlab.metrics.set_function import NEGLIGIBLE, UNMOVED, changes, each_left_out, game

FIXED = tuple(name for name in OPERATORS if name not in DRAWS)
"""Removal operators that draw nothing: a score is held to what it says of one input, not of a mean."""

MOVED = 1e-3
"""A unit matters if it changes F by more than this share of the largest change."""

SCORED = 1e-6
"""A score is other than 0 if it is above this share of the largest."""


class _OneOperator:
    """Base of metrics that hold scores to one operator of their own, whatever the suite's columns are."""

    def __init__(self, *, operator: str = "replace") -> None:
        if operator not in FIXED:
            raise ValueError(f"operator={operator!r}; allowed: {', '.join(FIXED)}")
        self.operator = operator

    @staticmethod
    def facts(base: MetricFacts, *, operator: str = "replace") -> MetricFacts:
        """Returns the facts under the given operator."""
        return replace(base, operators=(operator,))


class SensitivityViolation(_OneOperator):
    """Scores the share of the units that move the answer, yet are scored zero.

    ``|{j moves: |a_j| <= 1e-6 max|a|}| / |{j moves}|``, where j moves if ``|F(x) - F(x without j)|`` exceeds a
    thousandth of its largest value over the units, F the explained scalar. Lower is better. Range [0, 1].
    Scores that are all 0 violate it everywhere. Signs and ties do not matter. Undefined where leaving out any one unit
    changes nothing. Almost every method passes on real text; gradients fail it where a model is saturated.
    Source: Sundararajan et al. 2017, section 2.1 (a); metrics spec 6.1.

    Args:
        operator: What a unit is exchanged for: a removal operator that draws nothing.

    Raises:
        ValueError: If the operator is another one.
    """

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, then each unit left out."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        effects = np.abs((yield from changes(case, each_left_out(case), self.operator)))
        if effects.max() < NEGLIGIBLE:
            return Score.undefined("leaving out any one word changes nothing")
        sizes = np.abs(case.scores)
        unscored = sizes <= SCORED * sizes.max()
        return Score(float(unscored[effects > MOVED * effects.max()].mean()))


class CompletenessGap(_OneOperator):
    """Scores by how much the scores miss adding up to the change of the answer when all units are removed.

    ``|sum of a_j - (F(x) - F(b))| / |F(x) - F(b)|``, F the explained scalar, b the input with every unit removed.
    Lower is better. Range [0, inf). It is a claim of Shapley values and of path methods, about the operator or
    baseline that they were given; of other methods it says nothing. Undefined for unsigned scores, which claim no
    total, and where ``|F(x) - F(b)|`` is below 1e-6. Source: Sundararajan et al. 2017, section 3; metrics spec 6.5.

    Args:
        operator: Removal operator that makes b, one that draws nothing: that of the explanation.

    Raises:
        ValueError: If the operator is another one.
    """

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, and nothing of it."""
        if reason := _no_total(case):
            return Score.undefined(reason)
        change = float((yield from changes(case, np.zeros((1, case.n_units), dtype=bool), self.operator))[0])
        if abs(change) < NEGLIGIBLE:
            return Score.undefined(UNMOVED)
        return Score(abs(float(case.scores.sum()) - change) / abs(change))


class ConservationGap:
    """Scores by how much the relevance of all tokens misses adding up to the answer itself.

    ``|F(x) - sum over all tokens of R| / |F(x)|``, special tokens included. Lower is better. Range [0, inf). It is
    the claim of conservative relevance propagation, which records its gap beside the scores (words alone cannot show
    it: special tokens receive relevance, too). What biases receive counts as missing. Undefined for methods that
    record no gap, and where ``|F(x)|`` is below 1e-6. Source: Ali et al. 2022 (conservation); metrics spec 6.5.
    """

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one question: the full input."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        if (gap := case.stats.get("conservation_gap")) is None:
            return Score.undefined("the method records no conservation gap")
        values = yield from game(case, "replace").values(np.ones((1, case.n_units), dtype=bool))
        if abs(values[0]) < NEGLIGIBLE:
            return Score.undefined("the answer is 0")
        return Score(abs(gap) / abs(float(values[0])))


def _no_total(case: Case) -> str | None:
    if case.n_units == 0:
        return NO_WORDS
    return None if case.signed else "unsigned scores claim no total"
