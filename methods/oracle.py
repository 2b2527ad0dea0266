"""An explanation that has seen the exam: the deletion curve itself, descended greedily."""

from dataclasses import replace

import numpy as np

from attrlab.bench.errors import NotApplicableError
from attrlab.bench.types import Asker, Floats, Game
from attrlab.methods.removal import under


class GreedyOracle:
    """Returns the order in which units go when each removal lowers the target's probability most (methods spec 9).

    What comprehensiveness and deletion curves can reach, give or take that greedy is not best: the other end of their
    scale from ``random``. Unsigned, deterministic; of equal candidates the one further left goes first.

    Args:
        largest: Most units; longer texts are skipped.
        operator: Removal operator; empty is the suite's.

    Raises:
        ValueError: If ``largest`` is below 1.
    """

    def __init__(self, *, largest: int = 40, operator: str = "") -> None:
        if largest < 1:
            raise ValueError(f"largest={largest}; allowed: 1 or more")
        self.largest = largest
        self.operator = operator

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``: m for the unit that goes first, down to 1. Asks ``m (m + 1) / 2 - 1``.

        Every step asks all its candidates at once; the last unit needs no question.

        Raises:
            NotApplicableError: If there are more than ``largest`` units.
        """
        if game.n_units > self.largest:
            raise NotApplicableError(f"{game.n_units} units; the oracle takes up to {self.largest}")
        game = replace(under(game, self.operator), scalar="prob")
        scores, present = np.ones(game.n_units), np.ones(game.n_units, dtype=bool)
        for left in range(game.n_units, 1, -1):
            candidates = np.flatnonzero(present)
            probabilities = yield from game.values(present & ~np.eye(game.n_units, dtype=bool)[candidates])
            gone = candidates[probabilities.argmin()]
            scores[gone], present[gone] = left, False
        return scores
