"""L-Shapley: Shapley values of every unit among its neighbours alone (Chen et al. 2019, arXiv 1808.02610)."""

from math import comb

import numpy as np

from attrlab.bench.types import Asker, Bools, Floats, Game, Ints


class LocalShapley:
    """Returns the Shapley value of each unit in the game of the units around it, all others removed. Signed.

    ``a_j = mean over sizes of the mean gain of j joining a set of that size out of its neighbours`` (equation 5 of
    the paper, "L-Shapley" of order ``radius``): exact where units further apart do not interact. Deterministic.

    Args:
        radius: How many units to either side are neighbours; at least 0, where it is the unit's own value.

    Raises:
        ValueError: If it is below 0.
    """

    def __init__(self, *, radius: int = 2) -> None:
        if radius < 0:
            raise ValueError(f"radius={radius}; allowed: 0 or more")
        self.radius = radius

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``; ``rng`` is not used. Asks each set of units that lie close together once."""
        units = np.arange(game.n_units)
        around = np.abs(units[:, None] - units) <= self.radius
        sets = [_subsets(np.flatnonzero(near), game.n_units) for near in around]
        distinct, place = np.unique(np.vstack(sets), axis=0, return_inverse=True)
        values = (yield from game.values(distinct))[place.ravel()]
        scores = np.zeros(game.n_units)
        ends = np.cumsum([len(keep) for keep in sets])
        for unit, (keep, part) in enumerate(zip(sets, np.split(values, ends[:-1]), strict=True)):
            others = keep.sum(1) - keep[:, unit]
            players = int(around[unit].sum())
            weights = 1 / (players * np.array([comb(players - 1, int(size)) for size in others]))
            scores[unit] = np.where(keep[:, unit], weights, -weights) @ part
        return scores


def _subsets(members: Ints, units: int) -> Bools:
    """Returns all sets of some units as keep-masks, ``(2 ** len(members), units)``."""
    keep = np.zeros((2 ** len(members), units), dtype=bool)
    keep[:, members] = np.arange(len(keep))[:, None] >> np.arange(len(members)) & 1
    return keep
