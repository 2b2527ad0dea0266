"""Infidelity and its kin: do the scores of removed words add up to what the removal does?

Source: Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations"; Bhatt et al. 2020, "Evaluating and
Aggregating Feature-based Model Explanations"; Ancona et al. 2018, "Towards better understanding of gradient-based
attribution methods"; metrics spec 3.
"""

from dataclasses import replace

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.types import Asker, Case, Floats, Score
from attrlab.metrics.ranking import NO_WORDS
from attrlab.metrics.set_function import NEGLIGIBLE, UNMOVED, changes, correlation, subsets, subsets_without

DRAWS = "removals"
"""Purpose of the draws that infidelity and faithfulness correlation share."""


def check_samples(samples: int) -> int:
    """Returns the number of draws.

    Raises:
        ValueError: If it is below 2.
    """
    if samples < 2:
        raise ValueError(f"samples={samples}; allowed: 2 or more")
    return samples


def infidelity(foretold: Floats, change: Floats, *, normalise: bool) -> float:
    """Returns mean (beta A - Delta)^2, in [0, inf), with the beta that makes it smallest, or with beta = 1.

    Args:
        foretold: A, sum of the scores of the removed units per removal.
        change: Delta, drop of F per removal.
        normalise: beta = sum A Delta / sum A^2, and 0 where all A are 0; without it beta = 1.

    >>> A, Delta = np.array([1.0, 2.0]), np.array([2.0, 4.0])
    >>> infidelity(A, Delta, normalise=True), infidelity(A, Delta, normalise=False)
    (0.0, 2.5)
    """
    if normalise and foretold.any():
        unit = foretold / np.abs(foretold).max()  # else the squares of tiny scores vanish
        foretold = unit * ((unit @ change) / (unit @ unit))
    return float(np.mean((foretold - change) ** 2))


class Infidelity:
    """Scores how far the scores of removed units are from adding up to the change of the answer.

    ``mean (beta A - Delta)^2 / mean Delta^2`` over random removals Z, each unit in Z with probability 1/2, where A is
    the sum of a_j over Z, ``Delta = F(x) - F(x without Z)``, F the explained scalar, and beta the factor that fits
    best, ``sum A Delta / sum A^2``. Lower is better. Range [0, 1]: 1 - cos^2 of A and Delta, and 1 for scores that
    are all zero; without ``normalise`` it has no upper end. As beta may be negative, an explanation and its negative
    score alike: read it beside faithfulness correlation. Unsigned scores are read as if all units supported the
    target. Undefined where removals change F by less than 0.001 (root mean square). Ties do not matter. Where all
    subsets are no more than the samples each is asked once: the value is then the expectation itself.
    Source: Yeh et al. 2019, section 2; metrics spec 3.

    Args:
        samples: Number of removals, the same for all methods; at least 2.
        normalise: Fit beta; without it beta = 1, which judges the scale of the scores too and suits only methods
            whose scores are meant in units of F.

    Raises:
        ValueError: If ``samples`` is below 2.
    """

    def __init__(self, *, samples: int = 200, normalise: bool = True) -> None:
        self.samples = check_samples(samples)
        self.normalise = normalise

    @staticmethod
    def facts(base: MetricFacts, *, samples: int = 200, normalise: bool = True) -> MetricFacts:
        """Returns the facts under the given parameters: raw infidelity depends on the scale and has no bound."""
        del samples
        return base if normalise else replace(base, bounds=(0.0, float("inf")), invariances=())

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, then every removal."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        keep = subsets(case, self.samples, DRAWS)
        change = yield from changes(case, keep)
        size = float(np.mean(change**2))
        if size < NEGLIGIBLE:
            return Score.undefined(UNMOVED)
        value = infidelity(~keep @ case.scores, change, normalise=self.normalise) / size
        return Score(min(value, 1.0) if self.normalise else value)  # above 1 only by rounding


class FaithfulnessCorrelation:
    """Scores the correlation between the scores of removed units and the change of the answer.

    ``Pearson(sum of a_j over Z, F(x) - F(x without Z))`` over the removals Z of :class:`Infidelity`, each unit in Z
    with probability 1/2, F the explained scalar. Higher is better. Range [-1, 1]. Scores that are all alike, but not
    0, say that the number of words removed is all that matters, and are correlated as such. Unsigned scores are read
    as if all units supported the target. Undefined for fewer than two units, for scores that are all 0 and where no
    removal changes F. Source: Bhatt et al. 2020 (faithfulness);
    metrics spec 3.

    Args:
        samples: Number of removals, the same for all methods; at least 2.

    Raises:
        ValueError: If ``samples`` is below 2.
    """

    def __init__(self, *, samples: int = 200) -> None:
        self.samples = check_samples(samples)

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, then every removal."""
        if case.n_units < 2:
            return Score.undefined("only one word" if case.n_units else NO_WORDS)
        keep = subsets(case, self.samples, DRAWS)
        change = yield from changes(case, keep)
        return correlation(~keep @ case.scores, change, ranked=False)


class SensitivityN:
    """Scores the correlation between the scores of n removed units and the change of the answer.

    ``Pearson(sum of a_j over Z, F(x) - F(x without Z))`` over the sets Z of n units, F the explained scalar: all of
    them where they are no more than the samples, else random ones. With n = 1 it is the correlation with leave-one-out
    effects. Higher is better. Range [-1, 1]. Unsigned scores are read as if all units supported the target. Undefined
    for n units or fewer, for scores that are all alike and where every removal changes F by as much.
    Source: Ancona et al. 2018 (sensitivity-n); metrics spec 3.

    Args:
        n: Number of units that are removed together; at least 1.
        samples: Largest number of removals, the same for all methods; at least 2.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(self, *, n: int = 2, samples: int = 200) -> None:
        if n < 1:
            raise ValueError(f"n={n}; allowed: 1 or more")
        self.n = n
        self.samples = check_samples(samples)

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, then every removal."""
        if case.n_units <= self.n:
            return Score.undefined(f"no more than {self.n} words" if case.n_units else NO_WORDS)
        keep = subsets_without(case, self.n, self.samples, f"removals of {self.n}")
        change = yield from changes(case, keep)
        return correlation(~keep @ case.scores, change, ranked=False)
