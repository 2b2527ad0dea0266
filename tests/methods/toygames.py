"""Games whose answers are known without a model, for the tests of black-box methods."""

from collections.abc import Callable

import numpy as np

from attrlab.bench.types import Ask, Bools, Estimate, Floats, Game, drive

Value = Callable[[Bools], Floats]


def game(units: int) -> Game:
    return Game(n_units=units, target=1, scalar="logit")


def additive(weights: Floats) -> Value:
    return lambda keep: keep @ weights + 0.3


def curved(units: int, seed: int = 0) -> Value:
    """A game with interactions of every order."""
    rng = np.random.default_rng(seed)
    one, two = rng.normal(size=(2, units))
    return lambda keep: 3 * np.tanh(keep @ one) + np.cos(keep @ two)


def table(values: Floats) -> Value:
    """The game that looks its values up: bit j of the index is unit j."""
    return lambda keep: values[keep @ (1 << np.arange(keep.shape[1]))]


def subsets(units: int) -> Bools:
    """All keep-masks, row i being the bits of i."""
    return (np.arange(2**units)[:, None] >> np.arange(units) & 1).astype(bool)


class Oracle:
    """Answers questions with a set function and remembers them, one array per step."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self.asked: list[Bools] = []

    def __call__(self, ask: Ask) -> Floats:
        self.asked.append(ask.keep)
        answer = self.value(ask.keep)
        return np.stack([np.zeros_like(answer), answer], axis=1)

    @property
    def questions(self) -> int:
        return sum(len(keep) for keep in self.asked)


def estimate(method, value: Value, units: int, seed: int = 0) -> Estimate:
    found = drive(method.ask(game(units), np.random.default_rng(seed)), Oracle(value))
    return found if isinstance(found, Estimate) else Estimate(found)


def explain(method, value: Value, units: int, seed: int = 0) -> Floats:
    return estimate(method, value, units, seed).scores
