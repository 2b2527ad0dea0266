"""Control that every method has to beat: scores that know nothing of the model."""

import numpy as np

from attrlab.bench.types import Asker, Floats, Game


class Random:
    """Returns i.i.d. U(0, 1) scores (methods spec 9). Unsigned, stochastic; asks nothing."""

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)`` in [0, 1)."""
        yield from ()
        return rng.random(game.n_units)
