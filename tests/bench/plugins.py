"""Plug-ins as users write them: good ones and broken ones. Tests copy this file out of the repository."""

import numpy as np

from attrlab.bench.batch import Explained


class Good:
    """Leaves one word out at a time."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def ask(self, game, rng):
        full = yield from game.values(np.ones((1, game.n_units)))
        rest = yield from game.values(~np.eye(game.n_units, dtype=bool))
        return (full - rest) * self.scale


class White:
    """Norm of the word embeddings."""

    def attribute(self, model, batch, targets, rngs):
        return Explained(model.embedding[batch.ids].norm(dim=-1))


class Words:
    """Number of words."""

    def score(self, case):
        return float(case.n_units)


class Shape:
    def ask(self, game, rng):
        yield from game.values(np.ones((1, game.n_units)))
        return np.zeros(game.n_units + 1)


class NotFinite:
    def ask(self, game, rng):
        yield from game.values(np.ones((1, game.n_units)))
        return np.full(game.n_units, np.nan)


class Raises:
    def ask(self, game, rng):
        yield from game.values(np.ones((1, game.n_units)))
        raise LookupError("nothing\nfound")


class Endless:
    def ask(self, game, rng):
        yield from game.values(np.ones((1, game.n_units)))
        while True:
            pass


class NoGenerator:
    def ask(self, game, rng):
        return np.zeros(game.n_units)


class Quits:
    def ask(self, game, rng):
        raise SystemExit(3)
        yield


class WhiteShape:
    def attribute(self, model, batch, targets, rngs):
        return Explained(model.embedding[batch.ids].norm(dim=-1)[:, :1])


class WhiteNothing:
    def attribute(self, model, batch, targets, rngs):
        return None


class ScoreRaises:
    def score(self, case):
        raise ValueError("no score")


class ScoreText:
    def score(self, case):
        return "good"


class Unseeded:
    """Draws from a generator of its own."""

    rng = np.random.default_rng(0)

    def ask(self, game, rng):
        yield from game.values(np.ones((1, game.n_units)))
        return self.rng.normal(size=game.n_units)


BROKEN = {
    "Shape": "returned scores of shape",
    "NotFinite": "are not finite",
    "Raises": "LookupError: nothing",
    "Endless": "timed out after 0.3 s",
    "NoGenerator": "ask() must be a generator",
    "Quits": "SystemExit: 3",
    "WhiteShape": "returned scores of shape",
    "WhiteNothing": "AttributeError",
}
"""Broken methods, and what the reason of their failure says."""
