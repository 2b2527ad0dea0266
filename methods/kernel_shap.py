"""Kernel SHAP: Shapley values as the weighted regression on coalitions, with the end points imposed exactly.

Written here and not handed to a library: SHAP draws from NumPy's global generator and selects features, Captum weighs
the end points with 10**6 and misses efficiency (methods spec 3.4).
"""

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from attrlab.bench.types import Asker, Bools, Floats, Game, Ints
from attrlab.methods.removal import under

SAMPLINGS = ("paired", "plain", "leverage")


class Design(NamedTuple):
    """Coalitions ``(q, m)``, neither empty nor whole, and their weights in the regression ``(q,)``."""

    keep: Bools
    weights: Floats


class KernelShap:
    """Returns Shapley values by weighted regression on coalitions (methods spec 3.4). Signed, stochastic.

    Scores sum to ``v(S) - v(empty)``. Where the budget covers all coalitions they are enumerated: the result is exact.
    With complements (``paired``, ``leverage``) a game of interactions of up to two units is solved exactly as well.
    References: Lundberg and Lee 2017, arXiv 1705.07874, theorem 2 (``plain``); Covert and Lee 2021, arXiv 2012.01536
    (``paired``); Musco and Witter 2025, arXiv 2410.01917 (``leverage``).

    Args:
        samples: Number of questions, two of them the end points, an odd one rounded down; 0 is ``2 m + 2048``.
        sampling: ``plain`` draws coalitions by their weight, ``paired`` half as many with their complements;
            ``leverage`` draws as many of every size (what there is of a rare one), no coalition twice.
        operator: Removal operator; empty is the suite's.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(self, *, samples: int = 0, sampling: str = "paired", operator: str = "") -> None:
        if samples != 0 and samples < 2:
            raise ValueError(f"samples={samples}; allowed: 0 (by length), 2 or more")
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling={sampling!r}; allowed: {', '.join(SAMPLINGS)}")
        self.samples = samples
        self.sampling = sampling
        self.operator = operator

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)`` after one batch of questions."""
        units = game.n_units
        samples = self.samples or 2 * units + 2048
        if 2**units <= samples:
            design = every_coalition(units)
        elif self.sampling == "leverage":
            design = by_leverage(units, samples // 2 - 1, rng)
        else:
            design = by_weight(units, samples // 2 * 2 - 2, rng, paired=self.sampling == "paired")
        ends = np.array([[False], [True]]).repeat(units, axis=1)
        values = yield from under(game, self.operator).values(np.vstack([ends, design.keep]))
        return regression(design, values[2:] - values[0], values[1] - values[0])


def size_masses(units: int) -> Floats:
    """Returns the Shapley kernel summed over all coalitions of each size 1..m-1: ``(m - 1) / (k (m - k))``."""
    sizes = np.arange(1, units)
    return (units - 1) / (sizes * (units - sizes))


def regression(design: Design, gains: Floats, whole: float) -> Floats:
    """Returns the weighted least-squares fit of a linear game whose scores sum to ``whole``, ``(m,)``.

    The constraint goes by projection: every unit gets an equal share of ``whole``, and the rest is fitted on the
    plane of scores that sum to 0. Where the coalitions leave the fit open, that is the one nearest to equal shares.

    Args:
        design: Coalitions and weights.
        gains: What each coalition gains over the empty one, ``(q,)``.
        whole: What the whole set gains.
    """
    units = design.keep.shape[1]
    shares = design.keep.mean(axis=1)
    scale = np.sqrt(design.weights)
    matrix = scale[:, None] * (design.keep - shares[:, None])
    rest = np.linalg.lstsq(matrix, scale * (gains - whole * shares), rcond=None)[0]
    return np.asarray(whole / units + rest)


def every_coalition(units: int) -> Design:
    """Returns all coalitions that are neither empty nor whole, weighted by the Shapley kernel."""
    keep = (np.arange(1, 2**units - 1)[:, None] >> np.arange(units) & 1).astype(bool)
    per_set = size_masses(units) / np.array([comb(units, size) for size in range(1, units)])
    return Design(keep, per_set[keep.sum(axis=1) - 1])


def by_weight(units: int, count: int, rng: np.random.Generator, *, paired: bool) -> Design:
    """Returns ``count`` coalitions drawn in proportion to the Shapley kernel, hence of equal weight.

    Args:
        units: At least 2.
        count: Even.
        rng: Draws.
        paired: Draw half as many, and add the complement of each.
    """
    masses = size_masses(units)
    sizes = rng.choice(np.arange(1, units), size=count // 2 if paired else count, p=masses / masses.sum())
    keep = random_sets(units, sizes, rng)
    return Design(np.vstack([keep, ~keep]) if paired else keep, np.ones(count))


def by_leverage(units: int, pairs: int, rng: np.random.Generator) -> Design:
    """Returns distinct coalitions drawn by leverage, each with its complement, weighted by kernel over probability.

    The leverage score of a coalition is one over the number of coalitions of its size (Musco and Witter 2025, lemma
    3.2). Unlike their sampler, which flips a coin per coalition, the number of each size is its expectation rounded
    at random: the same probabilities, and a cost that is known beforehand.

    Args:
        units: At least 2.
        pairs: Number of pairs, fewer than there are.
        rng: Draws.
    """
    expected = pairs_per_size(units, pairs)
    parts, weights = [np.zeros((0, units), dtype=bool)], [np.zeros(0)]
    counts = rounded(expected, rng)
    for index in np.flatnonzero(counts).tolist():
        parts.append(distinct_sets(units, index + 1, int(counts[index]), rng))
        # A pair of two halves holds both coalitions of one size, a pair of other sizes one of each.
        per_size = expected[index] * (2 if 2 * (index + 1) == units else 1)
        weights.append(np.full(counts[index], size_masses(units)[index] / per_size))
    keep = np.vstack(parts)
    return Design(np.vstack([keep, ~keep]), np.tile(np.concatenate(weights), 2))


def pairs_per_size(units: int, pairs: int) -> Floats:
    """Returns how many pairs to expect of each smaller size 1..m//2: equally many per size, but no more than exist.

    A pair of two halves takes up one size, not two, so there are half as many of them.
    """
    rates = np.array([1.0 if 2 * size == units else 2.0 for size in range(1, units // 2 + 1)])
    counts: list[float] = []
    for index, rate in enumerate(rates):
        # Sizes ascend, and with them what exists: what one leaves over goes to the later ones.
        share = (pairs - sum(counts)) * rate / rates[index:].sum()
        counts.append(float(min(number_of_pairs(units, index + 1), share)))
    return np.array(counts)


def number_of_pairs(units: int, size: int) -> int:
    """Returns how many pairs of a coalition of ``size`` and its complement there are."""
    return comb(units, size) // (2 if 2 * size == units else 1)


def rounded(expected: Floats, rng: np.random.Generator) -> Ints:
    """Returns whole numbers with the given expectations and the same sum, by systematic sampling."""
    whole = np.floor(expected)
    edges = np.concatenate([[0.0], np.cumsum(expected - whole)])
    edges[-1] = np.round(edges[-1])
    return np.asarray(whole + np.diff(np.floor(edges + rng.random())), dtype=np.int64)


def distinct_sets(units: int, size: int, count: int, rng: np.random.Generator) -> Bools:
    """Returns ``count`` different coalitions of a size, ``(count, units)``, no two of them complements."""
    total = number_of_pairs(units, size)
    if total <= 2 * count:
        # In this order the coalitions with unit 0 come first: of two halves, one is among the first half.
        members = np.array(list(combinations(range(units), size))[:total])[rng.permutation(total)[:count]]
        keep = np.zeros((count, units), dtype=bool)
        np.put_along_axis(keep, members, values=True, axis=1)
        return keep
    found: dict[bytes, Bools] = {}
    while len(found) < count:
        for keep in random_sets(units, np.full(count, size), rng):
            one = keep ^ (2 * size == units and not keep[0])
            found.setdefault(one.tobytes(), one)
    return np.array(list(found.values())[:count], dtype=bool).reshape(count, units)


def random_sets(units: int, sizes: Ints, rng: np.random.Generator) -> Bools:
    """Returns one coalition of each given size, uniform among those of that size, ``(len(sizes), units)``."""
    ranks = rng.permuted(np.tile(np.arange(units), (len(sizes), 1)), axis=1)
    return np.asarray(ranks < sizes[:, None])
