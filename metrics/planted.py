"""Planted features: does an explanation find the words that decide by construction, where the model goes by them?

Source: Ribeiro et al. 2016, "Why Should I Trust You?", section 5.2; Bastings et al. 2022; metrics spec 7.1.
"""

from abc import ABC, abstractmethod

import numpy as np

from attrlab.bench.scalars import scalar
from attrlab.bench.types import Ask, Asker, Bools, Case, Floats, Ints, Score
from attrlab.metrics.ranking import NO_WORDS, rankings, top

OPERATOR = "replace"
"""Removal operator of the interventions: positions stay, and no draw can plant another deciding word."""

DRAWS = 20
"""Random sets of other units on which is intervened."""

STEADY = 0.95
"""Share of those draws that must leave the prediction alone."""


def recall(chosen: Bools, planted: Bools) -> float:
    """Returns |chosen and planted| / |planted|, in [0, 1].

    >>> recall(np.array([True, True, False]), np.array([True, False, True]))
    0.5
    """
    return float((chosen & planted).sum() / planted.sum())


def average_precision(found: Bools) -> float:
    """Returns the mean, over the planted units, of the share of planted units down to their rank, in (0, 1].

    Args:
        found: Whether each unit is planted, best-ranked first, ``(n_units,)``.

    >>> average_precision(np.array([True, False, True, False]))  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    return float(np.mean((np.cumsum(found) / np.arange(1, len(found) + 1))[found]))


def interventions(case: Case, planted: Bools) -> Bools:
    """Returns what stays in each intervention: everything; all but the planted units; all but as many others, drawn.

    The draws depend on the example alone; they go by the tie order, so that the order of the units plays no part.
    Fewer others than planted units are all taken.

    Returns:
        ``(2 + DRAWS, n_units)``; ``(2, n_units)`` where every unit is planted.
    """
    others = case.tie_orders[0][~planted[case.tie_orders[0]]]
    keep = np.ones((2 + DRAWS * (len(others) > 0), case.n_units), dtype=bool)
    keep[1] = ~planted
    rng, size = case.generator("planted", "others"), min(len(others), int(planted.sum()))
    for row in keep[2:]:
        row[rng.permutation(others)[:size]] = False
    return keep


def unused(p: Floats, n_classes: int) -> str | None:
    """Returns why the planted units are not what a prediction goes by, or None if they are.

    The prediction counts as changed where the target's probability loses at least half of its lead over 1/C. A change
    of class is too strict: without any planted word a model still has to answer something, and for half of the
    examples that is the class it predicted before.

    Args:
        p: Probability of the target after each of the :func:`interventions`.
        n_classes: C.

    >>> unused(np.array([0.9, 0.6, 0.9, 0.8]), 2), unused(np.array([0.9, 0.8, 0.9, 0.8]), 2)
    (None, 'the prediction stays without the planted words')
    """
    lead = p - 1 / n_classes
    if lead[0] <= 0:
        return "the model does not predict the target"
    changed = lead[1:] <= lead[0] / 2
    if not changed[0]:
        return "the prediction stays without the planted words"
    steady = 1 - np.mean(changed[1:]) if len(changed) > 1 else 1.0
    return None if steady >= STEADY - 1e-9 else "the prediction changes without other words too"


class _Planted(ABC):
    """Base: finds the planted units, makes sure that the model goes by them, ranks.

    Args:
        causal: Keep only examples in which intervening on the planted units changes the prediction and intervening on
            as many others does not (:func:`unused`); else those in which the prediction is the label.
        absolute: Rank by magnitude, whatever the sign: where planted words may speak against the prediction
            (``bag_of_words``).
    """

    smallest = 1

    def __init__(self, *, causal: bool = True, absolute: bool = False) -> None:
        self.causal = causal
        self.absolute = absolute

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score, averaged over the rankings that ties leave open, after one batch of questions."""
        planted = self._planted(case)
        if isinstance(planted, Score):
            return planted
        if self.causal:
            logits = yield Ask(keep=interventions(case, planted), operator=OPERATOR)
            reason = unused(scalar("prob", logits, case.target), logits.shape[1])
            if reason:
                return Score.undefined(reason)
        ranked = rankings(np.abs(case.scores) if self.absolute else case.scores, case.tie_orders)
        return Score(float(np.mean([self.value(row, planted) for row in ranked])))

    def _planted(self, case: Case) -> Bools | Score:
        if case.rationales is None:
            return Score.undefined("no planted words")
        planted = case.rationales[0]
        reason = self._obstacle(case, planted)
        return Score.undefined(reason) if reason else planted

    def _obstacle(self, case: Case, planted: Bools) -> str | None:
        if case.n_units == 0:
            return NO_WORDS
        if not self.causal and case.target != case.label:
            return "no gold label" if case.label is None else "prediction differs from the label the words decide"
        if planted.sum() < self.smallest:
            return "only one word is planted" if planted.any() else "no word is marked"
        return None

    @abstractmethod
    def value(self, ranked: Ints, planted: Bools) -> float:
        """Returns the value of one ranking of the units, best first."""


class PlantedRecall(_Planted):
    """Scores the share of the planted units G among the |G| top-ranked units.

    ``recall = |top |G| and G| / |G|``, which is the precision of the top |G| as well. Higher is better. Range [0, 1]; a
    random order gets |G| / m. Ties are averaged over the tie orders. Undefined where nothing is planted and where the
    model does not go by what is (:func:`unused`). Source: metrics spec 7.1.
    """

    def value(self, ranked: Ints, planted: Bools) -> float:
        """Returns the recall."""
        return recall(top(ranked[None], int(planted.sum()))[0], planted)


class PlantedPrecision(_Planted):
    """Scores the share of planted units among the k top-ranked units; with k = 1, whether the best one is planted.

    ``precision = |top k and G| / min(k, m)``. Higher is better. Range [0, 1]; a random order gets |G| / m. Ties and
    undefined scores as in :class:`PlantedRecall`. Source: metrics spec 7.1.

    Args:
        k: Number of units, at least 1.
        causal: See :class:`PlantedRecall`.
        absolute: See :class:`PlantedRecall`.

    Raises:
        ValueError: If ``k`` is below 1.
    """

    def __init__(self, *, k: int = 1, causal: bool = True, absolute: bool = False) -> None:
        super().__init__(causal=causal, absolute=absolute)
        if k < 1:
            raise ValueError(f"k={k}; allowed: 1 or more")
        self.k = k

    def value(self, ranked: Ints, planted: Bools) -> float:
        """Returns the precision."""
        return float(np.mean(planted[ranked[: self.k]]))


class PlantedAveragePrecision(_Planted):
    """Scores how early in the ranking all planted units come.

    ``AP = mean over g in G of |G among the units down to g| / rank(g)``. Higher is better. Range [0, 1]. A random
    order gets ``(H + (m - H) (|G| - 1) / (m - 1)) / m`` with ``H = 1 + 1/2 + ... + 1/m``. Ties and undefined scores as
    in :class:`PlantedRecall`. Source: metrics spec 7.1.
    """

    def value(self, ranked: Ints, planted: Bools) -> float:
        """Returns the average precision."""
        return average_precision(planted[ranked])


class FirstGoldRank(_Planted):
    """Scores the rank of the first planted unit, 1 for the best.

    ``min over g in G of rank(g)``. Lower is better. Range [1, inf); a random order gets (m + 1) / (|G| + 1). Ties and
    undefined scores as in :class:`PlantedRecall`. Source: metrics spec 7.1.
    """

    def value(self, ranked: Ints, planted: Bools) -> float:
        """Returns the rank."""
        return float(np.argmax(planted[ranked]) + 1)


class BothFound(_Planted):
    """Scores whether all planted units are the |G| top-ranked ones: words that decide together, found together.

    ``1 if top |G| = G else 0``. Higher is better. Range [0, 1]; a random order gets 1 / (m choose |G|). Ties and
    undefined scores as in :class:`PlantedRecall`; undefined also where a single unit is planted. Source: metrics
    spec 7.1.
    """

    smallest = 2

    def value(self, ranked: Ints, planted: Bools) -> float:
        """Returns 1 or 0."""
        return float(planted[ranked[: int(planted.sum())]].all())
