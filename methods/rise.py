"""RISE for text: how the explained scalar goes with a unit's presence when units come and go at random."""

from dataclasses import replace

import numpy as np

from attrlab.bench.types import Asker, Bools, Estimate, Floats, Game
from attrlab.methods.removal import under

VARIANTS = ("centred", "classic")


class Rise:
    """Returns what random keep-masks say of each unit (methods spec 3.2). Signed, stochastic.

    Every unit stays with probability ``p``, by itself: the coarse grid that is scaled up in the original is for
    images, and would tie the neighbours of a text together. ``centred`` is the mean of the scalar with the unit minus
    the mean without it, an estimate of the Banzhaf value where p = 1/2. ``classic`` is the original estimator on the
    probability of the target: never negative, and its noise grows with the mean probability.
    Reference: Petsiuk et al. 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", equation 6.

    Args:
        samples: Number of questions; 0 is 40 per unit, between 500 and 4000.
        variant: ``centred`` or ``classic``.
        p: Probability that a unit stays, between 0 and 1.
        operator: Removal operator; empty is the suite's.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(self, *, samples: int = 0, variant: str = "centred", p: float = 0.5, operator: str = "") -> None:
        if samples != 0 and samples < 2:
            raise ValueError(f"samples={samples}; allowed: 0 (by length), 2 or more")
        if variant not in VARIANTS:
            raise ValueError(f"variant={variant!r}; allowed: {', '.join(VARIANTS)}")
        if not 0 < p < 1:
            raise ValueError(f"p={p}; allowed: above 0 and below 1")
        self.samples = samples
        self.variant = variant
        self.p = p
        self.operator = operator

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Estimate]:
        """Returns scores and their standard errors, ``(m,)``, after one batch of questions."""
        samples = self.samples or min(max(40 * game.n_units, 500), 4000)
        keep = rng.random((samples, game.n_units)) < self.p
        game = under(game, self.operator)
        if self.variant == "classic":
            values = yield from replace(game, scalar="prob").values(keep)
            return classic(keep, values, self.p)
        values = yield from game.values(keep)
        return centred(keep, values)


def classic(keep: Bools, values: Floats, p: float) -> Estimate:
    """Returns ``sum_i F_i M_ij / (N p)`` and its standard error.

    Args:
        keep: M, ``(N, m)``.
        values: F, ``(N,)``.
        p: Probability that a unit stays.
    """
    terms = values[:, None] * keep / p
    return Estimate(terms.mean(axis=0), terms.std(axis=0, ddof=1) / np.sqrt(len(keep)))


def centred(keep: Bools, values: Floats) -> Estimate:
    """Returns the mean of the values with a unit minus that without, and its standard error.

    A unit that is always or never there scores 0; errors are None where a unit has fewer than two rows of a kind.

    Args:
        keep: ``(N, m)``.
        values: ``(N,)``.
    """
    counts = np.stack([keep.sum(axis=0), (~keep).sum(axis=0)])
    # Differences to the first value, so that a constant cancels exactly.
    values = values - values[0]
    sides = np.stack([keep, ~keep]).astype(np.float64)
    means = values @ sides / np.maximum(counts, 1)
    scores = np.where(counts.all(axis=0), means[0] - means[1], 0.0)
    if counts.min() < 2:
        return Estimate(scores)
    variances = ((values[:, None] - means[:, None]) ** 2 * sides).sum(axis=1) / (counts - 1)
    return Estimate(scores, np.sqrt((variances / counts).sum(axis=0)))
