"""Importance of a unit as the change of the explained scalar when the unit is taken away."""

import numpy as np

from attrlab.bench.types import Asker, Floats, Game


class LeaveOneOut:
    """Returns ``v(S) - v(S without j)`` (methods spec 3.1). Signed, deterministic; asks m + 1 questions.

    The same numbers as Captum's ``FeatureAblation`` under the same removal operator.
    """

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``; positive means the unit supports the target. ``rng`` is not used."""
        units = game.n_units
        keep = np.vstack([np.ones((1, units), dtype=bool), ~np.eye(units, dtype=bool)])
        values = yield from game.values(keep)
        return np.asarray(values[0] - values[1:])
