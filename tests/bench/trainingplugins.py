"""Plug-ins for the tests: the metrics that train, at home in a file, and an explanation that tells the label."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from attrlab.metrics import roar, simulatability

TRAINS: Mapping[str, Any] = {"trains": True}


class Roar(roar.Roar):
    """ROAR."""

    facts: ClassVar = TRAINS


class RecursiveRoar(roar.RecursiveRoar):
    """Recursive ROAR."""

    facts: ClassVar = TRAINS


class RoarLeak(roar.RoarLeak):
    """The leak control."""

    facts: ClassVar = TRAINS


class Simulatability(simulatability.Simulatability):
    """Student simulatability."""

    facts: ClassVar = TRAINS


class Cheater:
    """Explains nothing: the first words for one class, the last words for the other."""

    facts: ClassVar = {"deterministic": True}

    def ask(self, game, rng):
        yield from game.values(np.ones((1, game.n_units), dtype=bool))
        places = np.arange(game.n_units, dtype=np.float64)
        return places if game.target else -places
