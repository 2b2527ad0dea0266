"""Controls: scores that know nothing of the model, and scores that are wrong on purpose (methods spec 9)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.errors import NotApplicableError
from attrlab.bench.facts import MethodFacts
from attrlab.bench.model import TextModel
from attrlab.bench.registry import METHODS, Component
from attrlab.bench.types import Asker, Estimate, Floats, Game

DIRECTIONS = ("first", "last")


class Random:
    """Returns i.i.d. U(0, 1) scores (methods spec 9). Unsigned, stochastic; asks nothing."""

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)`` in [0, 1)."""
        yield from ()
        return rng.random(game.n_units)


class Position:
    """Returns the place of each unit, m to 1 from the left, or 1 to m. Unsigned, deterministic; asks nothing.

    What a metric rewards here it rewards for position alone.

    Args:
        direction: Which end scores highest, ``first`` or ``last``.

    Raises:
        ValueError: If ``direction`` is neither.
    """

    def __init__(self, *, direction: str = "first") -> None:
        if direction not in DIRECTIONS:
            raise ValueError(f"direction={direction!r}; allowed: {', '.join(DIRECTIONS)}")
        self.direction = direction

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``, 1 to m."""
        yield from ()
        places = np.arange(1.0, game.n_units + 1)
        return places[::-1] if self.direction == "first" else places


class WordLength:
    """Returns the number of letters and digits of each word. Unsigned, deterministic; asks nothing."""

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``, whole numbers from 0.

        Raises:
            NotApplicableError: If nobody knows what the units read.
        """
        yield from ()
        if len(game.words) != game.n_units:
            raise NotApplicableError("the units are no words of a text")
        return np.array([sum(char.isalnum() for char in word) for word in game.words], dtype=np.float64)


class InverseFrequency:
    """Attributes by how rare a token is among the calibration texts. Unsigned, deterministic; runs no model.

    ``-ln((n + 1) / (N + V))`` for a token seen n times among N, V being the size of the vocabulary; a word counts as
    its rarest token. Without calibration texts all tokens score alike.
    """

    aggregate = "max"
    rows = 1

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the rarity of every token, (B, L), in nats; ``targets`` play no part."""
        vocabulary = len(model.embedding)
        seen = [one.ids[one.units >= 0] for one in model.calibration]
        counts = np.bincount(np.concatenate([np.zeros(0, dtype=np.int64), *seen]), minlength=vocabulary)
        rarity = torch.from_numpy(np.log(counts.sum() + vocabulary) - np.log(counts + 1))
        return Explained(rarity.to(batch.ids.device)[batch.ids], [{"uncalibrated": float(not seen)}] * len(batch))


def inverted(of: str = "leave_one_out") -> "InvertedAsker | InvertedWhiteBox":
    """Returns another method with the sign of its scores changed: what it finds least important comes first.

    Args:
        of: A method as on the command line, with semicolons between parameters: ``lime:samples=100;kernel_width=9``.

    Raises:
        UserError: If there is no such method, or it refuses its parameters.
    """
    component = inner_method(of)
    inner = component.build()
    return InvertedWhiteBox(inner, component) if hasattr(inner, "attribute") else InvertedAsker(inner, component)


def inner_method(of: str) -> Component[MethodFacts]:
    """Returns a method that another one is made of, named with semicolons between its parameters."""
    return METHODS.find(of.replace(";", ","))


def facts_of_inner(own: MethodFacts, of: str = "leave_one_out", **_: float) -> MethodFacts:
    """Returns the facts of a method made of another one: the inner one's, save where it is and what it is for."""
    inner = inner_method(of).facts
    version = f"{own.version}/{inner.version}"
    return replace(inner, where=own.where, family=own.family, summary=own.summary, version=version)


inverted.facts = facts_of_inner  # type: ignore[attr-defined]  # the registry asks it once the parameters are known


class InvertedAsker:
    """A black-box method with the sign of its scores changed.

    Args:
        inner: The method.
        component: How it is called, for its cost.
    """

    def __init__(self, inner: Any, component: Component[MethodFacts]) -> None:
        self.inner = inner
        self.component = component

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Estimate]:
        """Returns minus the inner method's scores ``(m,)``, with its errors and diagnostics."""
        found = yield from self.inner.ask(game, rng)
        scores, errors, stats = found if isinstance(found, Estimate) else Estimate(found)
        return Estimate(-np.asarray(scores), errors, stats)


class InvertedWhiteBox:
    """A white-box method with the sign of its scores changed.

    Args:
        inner: The method.
        component: How it is called, for its cost.
    """

    def __init__(self, inner: Any, component: Component[MethodFacts]) -> None:
        self.inner = inner
        self.component = component

    @property
    def aggregate(self) -> str:
        """How tokens become a word: as in the inner method, but its largest score is now the smallest."""
        name = str(getattr(self.inner, "aggregate", "sum"))
        return "min" if name == "max" else name

    @property
    def rows(self) -> int:
        """Rows per example in one forward pass."""
        return int(getattr(self.inner, "rows", 1))

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns minus the inner method's scores, (B, L), with its diagnostics."""
        explained = self.inner.attribute(model, batch, targets, rngs)
        return Explained(-explained.scores, explained.stats)
