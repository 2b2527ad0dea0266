"""An explanation read as an additive model of the answers: removals, what the scores foretell, how well they do.

The model is a set function: the explained scalar F of the units that stay. Scores that add up foretell for every
removal Z that F drops by the sum of a_j over Z (metrics spec 3).
"""

from itertools import combinations
from math import comb

import numpy as np

from attrlab.bench.types import Asker, Bools, Case, Floats, Game, Score

NEGLIGIBLE = 1e-6
"""Denominators below this are taken for 0 (metrics spec 0.6)."""

ROUNDING = 1e-9
"""Differences below this share of the range are rounding: sums of the same scores in another order."""

UNMOVED = "no removal changes the answer"
FLAT = "the scores foretell the same for every removal"


def game(case: Case, operator: str | None = None) -> Game:
    """Returns the game that a metric asks about: the explained scalar F under an operator, the case's by default."""
    return Game(n_units=case.n_units, target=case.target, scalar=case.scalar, operator=operator or case.operator)


def changes(case: Case, keep: Bools, operator: str | None = None) -> Asker[Floats]:
    """Asks for F(x) - F(kept units) of every keep-mask and, before them, for the full input; ``(n_removals,)``."""
    full = np.ones((1, case.n_units), dtype=bool)
    values = yield from game(case, operator).values(np.vstack([full, keep]))
    return np.asarray(values[0] - values[1:])


def each_left_out(case: Case) -> Bools:
    """Returns the keep-masks with one unit removed, ``(n_units, n_units)``, in the order of the units."""
    return ~np.eye(case.n_units, dtype=bool)


def subsets(case: Case, samples: int, purpose: str) -> Bools:
    """Returns keep-masks in which every unit stays with probability 1/2, ``(min(samples, 2**m), m)``.

    Where all 2**m subsets are no more than the samples, each comes once: means over them are the expectation itself.

    Args:
        case: The example; masks depend on it and on the purpose, never on the method.
        samples: Number of draws.
        purpose: Draws for different purposes are independent.
    """
    m = case.n_units
    if 2**m <= samples:
        return np.asarray((np.arange(2**m)[:, None] >> np.arange(m)) & 1, dtype=bool)
    return np.asarray(case.generator(purpose).random((samples, m)) < 0.5)


def subsets_without(case: Case, n: int, samples: int, purpose: str) -> Bools:
    """Returns keep-masks in which n units are removed, ``(min(samples, m choose n), m)``; all of them where few."""
    m = case.n_units
    if comb(m, n) <= samples:
        keep = np.ones((comb(m, n), m), dtype=bool)
        for row, removed in zip(keep, combinations(range(m), n), strict=True):
            row[list(removed)] = False
        return keep
    orders = case.generator(purpose).permuted(np.tile(np.arange(m), (samples, 1)), axis=1)
    return np.asarray(orders >= n)


def ranks(values: Floats) -> Floats:
    """Returns the ranks from 1, equal values at their mean rank; values that differ by rounding are equal.

    >>> ranks(np.array([0.3, 0.1 + 0.2, 5.0])).tolist()
    [1.5, 1.5, 3.0]
    """
    from scipy.stats import rankdata

    order = np.argsort(values, kind="stable")
    steps = np.diff(values[order], prepend=values[order[:1]]) > ROUNDING * np.ptp(values)
    levels = np.empty(len(values))
    levels[order] = np.cumsum(steps)
    return np.asarray(rankdata(levels))


def correlation(foretold: Floats, answers: Floats, *, ranked: bool) -> Score:
    """Returns the Pearson, or Spearman, correlation over removals, in [-1, 1].

    Undefined where the scores foretell the same for all of them, or where the model answers the same.

    Args:
        foretold: Sum of the scores of the units concerned, per removal.
        answers: The model's side of it, ``(n_removals,)``.
        ranked: Correlate ranks (Spearman).
    """
    size = np.abs(foretold).max()
    if np.ptp(foretold) <= ROUNDING * size:
        return Score.undefined(FLAT)
    if answers.std() < NEGLIGIBLE:
        return Score.undefined(UNMOVED)
    first, second = (ranks(foretold), ranks(answers)) if ranked else (foretold / size, answers)
    return Score(float(np.corrcoef(first, second)[0, 1]))
