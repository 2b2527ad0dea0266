"""Importance of a unit as the change of the explained scalar when the unit is taken away."""

from dataclasses import replace

import numpy as np

from attrlab.bench.types import Asker, Bools, Floats, Game


def under(game: Game, operator: str) -> Game:
    """Returns the game asked under a removal operator of the method's own; an empty name leaves the suite's."""
    return replace(game, operator=operator) if operator else game


class LeaveOneOut:
    """Returns ``v(S) - v(S without j)``, averaged over windows that cover j (methods spec 3.1). Signed, deterministic.

    The same numbers as Captum's ``FeatureAblation`` (windows: ``Occlusion``) under the same removal operator; a
    subtraction needs no library, and Captum averages windows in float32.

    Args:
        window: Number of neighbouring units that are removed together, at most all; a window's change counts whole
            for each of its units.
        operator: Removal operator; empty is the suite's.

    Raises:
        ValueError: If ``window`` is below 1.
    """

    def __init__(self, *, window: int = 1, operator: str = "") -> None:
        if window < 1:
            raise ValueError(f"window={window}; allowed: 1 or more")
        self.window = window
        self.operator = operator

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``; positive means the unit supports the target.

        Asks ``m - min(window, m) + 2`` questions. ``rng`` is not used.
        """
        removed = windows(game.n_units, self.window)
        whole = np.ones((1, game.n_units), dtype=bool)
        values = yield from under(game, self.operator).values(np.vstack([whole, ~removed]))
        return np.asarray((values[0] - values[1:]) @ removed / removed.sum(axis=0))


def windows(units: int, width: int) -> Bools:
    """Returns every window of ``width`` neighbours (of all units where there are fewer), ``(n_windows, units)``.

    >>> windows(3, 2).astype(int)
    array([[1, 1, 0],
           [0, 1, 1]])
    """
    width = min(width, units)
    offsets = np.arange(units) - np.arange(units - width + 1)[:, None]
    return np.asarray((offsets >= 0) & (offsets < width))
