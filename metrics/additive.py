"""LDS: how well the sum of scores orders held-out removals, beside what any additive explanation could reach.

Source: Park et al. 2023, "TRAK: Attributing Model Behavior at Scale", definition 2.3 (linear datamodeling score);
Cohen-Wang et al. 2024, "ContextCite: Attributing Model Generation to Context", for parts of an input.
"""

import numpy as np

from attrlab.bench.types import Asker, Bools, Case, Floats, Score
from attrlab.metrics.infidelity import check_samples
from attrlab.metrics.ranking import NO_WORDS
from attrlab.metrics.set_function import NEGLIGIBLE, ROUNDING, UNMOVED, correlation, game, ranks, subsets

PER_UNIT = 10
"""Least number of removals per unit: a least-squares fit of m + 1 numbers explains about m / N of pure chance."""

LEAST_CEILING = 0.1
"""Ceilings below this leave nothing to have a share of."""


def lds(scores: Floats, keep: Bools, values: Floats) -> Score:
    """Returns Spearman's correlation of the sum of the kept units' scores with F, in [-1, 1], or why there is none.

    Args:
        scores: Scores, ``(n_units,)``.
        keep: Removals, ``(n_removals, n_units)``.
        values: F of each, ``(n_removals,)``.
    """
    return correlation(keep @ scores, values, ranked=True)


def ceiling(keep: Bools, values: Floats) -> Score:
    """Returns the better :func:`lds` of two least-squares fits by a weight per unit, or why there is none.

    The fit of F is exact where F is additive; the fit of the ranks of F is the better one where F is an increasing
    function of something additive, as at a saturated model. An explanation that orders still better is possible: no
    closed form has the largest correlation of ranks.
    """
    design = np.column_stack([np.ones(len(keep)), keep])
    goals = np.column_stack([values, ranks(values)])
    fits = np.asarray(np.linalg.lstsq(design, goals)[0][1:], dtype=np.float64).T
    found = [lds(fit, keep, values) for fit, goal in zip(fits, goals.T, strict=True) if _moves(fit, keep, goal)]
    defined = [one for one in found if one.reason is None]
    return max(defined, key=lambda one: one.value, default=Score.undefined("nothing additive in the answers"))


def _moves(fit: Floats, keep: Bools, goal: Floats) -> bool:
    return bool(np.ptp(keep @ fit) > ROUNDING * np.ptp(goal))


class _HeldOut:
    """Base of the three: asks for the held-out removals, the same for all three and all methods."""

    def __init__(self, *, samples: int = 200) -> None:
        self.samples = check_samples(samples)

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: every removal."""
        if case.n_units < 2:
            return Score.undefined("only one word" if case.n_units else NO_WORDS)
        keep = subsets(case, max(self.samples, PER_UNIT * case.n_units), "held-out removals")
        values = yield from game(case).values(keep)
        return Score.undefined(UNMOVED) if values.std() < NEGLIGIBLE else self.read(case, keep, values)

    def read(self, case: Case, keep: Bools, values: Floats) -> Score:
        """Returns the score, given the answers."""
        raise NotImplementedError


class Lds(_HeldOut):
    """Scores how well the sum of the kept units' scores orders held-out removals (linear datamodeling score).

    ``Spearman(sum of a_j over the kept units, F(kept units))`` over random removals, each unit kept with probability
    1/2, F the explained scalar. Higher is better. Range [-1, 1]. Removals that are equal in either get their mean
    rank. Unsigned scores are read as if all units supported the target. Undefined for fewer than two units, for scores
    that are all 0 and where no removal changes F. The removals are drawn apart from those of other metrics and from
    all that methods ask, save that on a short text (2**m subsets at most as many) each subset comes once. Read it
    beside :class:`AdditiveCeiling`. Source: Park et al. 2023, definition 2.3; Cohen-Wang et al. 2024.

    Args:
        samples: Number of removals; 10 per unit where that is more. At least 2.

    Raises:
        ValueError: If ``samples`` is below 2.
    """

    def read(self, case: Case, keep: Bools, values: Floats) -> Score:
        """Returns the LDS."""
        return lds(case.scores, keep, values)


class AdditiveCeiling(_HeldOut):
    """Scores the text and the model, not the explanation: what an additive explanation can reach of :class:`Lds`.

    ``max of Spearman(fit, F)`` over the least-squares fits of F and of the ranks of F by a weight per unit, on the very
    removals of :class:`Lds`. It only describes. Range [-1, 1]. It is 1 where the model adds up its words, and low where
    they act together. A fit sees the removals it is judged on, so it is a little too high: with 10 removals per unit
    by about a tenth of what is not additive. Neither fit is always the best in ranks: an explanation may get slightly
    more. Undefined as :class:`Lds`, and where both fits are flat. Source: :class:`Lds` of a linear fit.

    Args:
        samples: As in :class:`Lds`.

    Raises:
        ValueError: If ``samples`` is below 2.
    """

    def read(self, case: Case, keep: Bools, values: Floats) -> Score:
        """Returns the ceiling."""
        return ceiling(keep, values)


class LdsShare(_HeldOut):
    """Scores which share of the additive ceiling an explanation reaches.

    ``LDS / additive ceiling`` on the same removals. Higher is better. Range [-10, 10]: 1 is as good as the
    least-squares fits. It is not cut off there, as they are not always the best in ranks: slightly above 1 is as good.
    Undefined as :class:`Lds`, and where the ceiling is below 0.1: nothing additive is there to be found.
    Source: :class:`Lds` over :class:`AdditiveCeiling`.

    Args:
        samples: As in :class:`Lds`.

    Raises:
        ValueError: If ``samples`` is below 2.
    """

    def read(self, case: Case, keep: Bools, values: Floats) -> Score:
        """Returns the share."""
        reached, best = lds(case.scores, keep, values), ceiling(keep, values)
        if reached.reason or best.reason:
            return reached if reached.reason else best
        if best.value < LEAST_CEILING:
            return Score.undefined("no additive explanation orders the removals")
        return Score(reached.value / best.value)
