"""How concentrated an explanation is: on few words, or spread over many. These only describe (metrics spec 8).

A short explanation is easier to read, not more faithful; a text may have one reason or many.
Source: Chalasani et al. 2020 (Gini); Bhatt et al. 2020, "Evaluating and Aggregating Feature-based Model
Explanations" (entropy).
"""

import numpy as np

from attrlab.bench.types import Case, Floats, Score
from attrlab.metrics.ranking import NO_WORDS


def shares(scores: Floats) -> Floats:
    """Returns |a| / sum |a|, ``(n_units,)``, summing to 1; where all scores are 0, 1/m each (metrics spec 0.6).

    >>> shares(np.array([-3.0, 1.0])).tolist()
    [0.75, 0.25]
    """
    sizes = np.abs(scores)
    largest = sizes.max()
    sizes = sizes / largest if largest > 0 else np.ones_like(sizes)  # no sum of large scores overflows
    return np.asarray(sizes / sizes.sum())


def gini(share: Floats) -> float:
    """Returns the sum over i of (2i - m - 1) p_i / m, shares sorted ascending, i from 1; in [0, 1 - 1/m].

    >>> gini(np.array([0.0, 0.0, 1.0, 0.0]))
    0.75
    """
    m = len(share)
    return max(0.0, float((2 * np.arange(1, m + 1) - m - 1) @ np.sort(share)) / m)


def entropy(share: Floats) -> float:
    """Returns minus the sum of p ln p, in nats, in [0, ln m]; 0 ln 0 is 0.

    >>> round(entropy(np.array([0.5, 0.0, 0.5])), 6)  # ln 2
    0.693147
    """
    some = share[share > 0]
    return min(float(np.log(len(share))), max(0.0, float(-some @ np.log(some))))


class Gini:
    """Scores how unevenly the magnitude of an explanation is spread over its units: 0 evenly, near 1 on one unit.

    ``sum over i of (2i - m - 1) |a|_i / (m sum |a|)``, ``|a|`` sorted ascending, i from 1. It only describes.
    Range [0, 1]; at most 1 - 1/m, so compare on the same texts. Scores that are all equal have 0. Ties change nothing.
    Undefined without units. Source: Chalasani et al. 2020; metrics spec 8.
    """

    def score(self, case: Case) -> Score:
        """Returns the score."""
        return Score(gini(shares(case.scores))) if case.n_units else Score.undefined(NO_WORDS)


class Entropy:
    """Scores the entropy of the magnitudes, in nats: 0 on one unit, ln m where all are equal.

    ``- sum over j of p_j ln p_j``, ``p = |a| / sum |a|``. It only describes. Range [0, inf); with ``normalised``
    at most 1. Ties change nothing. Undefined without units; normalised, for a single one too.
    Source: Bhatt et al. 2020; metrics spec 8.

    Args:
        normalised: Divide by ln m, so that texts of different lengths can be compared.
    """

    def __init__(self, *, normalised: bool = False) -> None:
        self.normalised = normalised

    def score(self, case: Case) -> Score:
        """Returns the score."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        if not self.normalised:
            return Score(entropy(shares(case.scores)))
        if case.n_units == 1:
            return Score.undefined("only one word")
        return Score(entropy(shares(case.scores)) / float(np.log(case.n_units)))


class EffectiveSize:
    """Scores the share of units an explanation speaks of: as many equal scores have the same entropy.

    ``exp(entropy of |a| / sum |a|) / m``. It only describes. Range [0, 1]; 1/m on one unit, 1 where all scores are
    equal. Ties change nothing. Undefined without units. Source: metrics spec 8.
    """

    def score(self, case: Case) -> Score:
        """Returns the score."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        return Score(min(1.0, float(np.exp(entropy(shares(case.scores)))) / case.n_units))


class MassCoverage:
    """Scores the share of units it takes, largest first, to hold most of the magnitude of an explanation.

    ``min k / m such that the k largest |a| sum to at least share * sum |a|``. It only describes. Range [0, 1]. Ties
    change nothing. Undefined without units. Source: metrics spec 8.

    Args:
        share: How much of the magnitude must be held, above 0, at most 1.

    Raises:
        ValueError: If ``share`` is outside (0, 1].
    """

    def __init__(self, *, share: float = 0.9) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share={share}; allowed: above 0, at most 1")
        self.share = share

    def score(self, case: Case) -> Score:
        """Returns the score."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        held = np.cumsum(np.sort(shares(case.scores))[::-1])
        needed = 1 + int((held < self.share - 1e-9).sum())  # 1e-9: rounding asks for no further unit
        return Score(min(case.n_units, needed) / case.n_units)
