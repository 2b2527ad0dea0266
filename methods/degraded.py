"""Explanations made worse on purpose, by a stated amount: what a metric must put in order (metrics spec 12.6)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.facts import MethodFacts
from attrlab.bench.model import TextModel
from attrlab.bench.registry import Component
from attrlab.bench.seeds import generator
from attrlab.bench.types import Asker, Estimate, Floats, Game, Ints
from attrlab.methods.controls import facts_of_inner, inner_method


def degraded(of: str = "leave_one_out", share: float = 1.0, draw: int = 0) -> "DegradedAsker | DegradedWhiteBox":
    """Returns another method, a share of whose scores changed places among themselves.

    The values stay, and with them ties, signs and mass: only where they stand is no longer known. With ``share=1`` all
    words take part, and nothing is left to know: the random explanation that matches the method, against which a
    metric tells nothing by the looks of scores. Smaller shares are rungs of a ladder: which words take part at one is
    part of those at the next, and which, the text and the draw alone decide, for all methods alike.

    Args:
        of: A method as on the command line, with semicolons between parameters: ``lime:samples=100;kernel_width=9``.
        share: Of the words, above 0 and at most 1, rounded up; at least two words where there are as many.
        draw: Which of many such explanations, from 0.

    Raises:
        UserError: If there is no such method, or it refuses its parameters.
        ValueError: If ``share`` or ``draw`` is out of range.

    Source: attrlab control; the matched null after ICE, arXiv 2603.18579.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}; allowed: above 0, at most 1")
    if draw < 0:
        raise ValueError(f"draw={draw}; allowed: 0 or more")
    component = inner_method(of)
    inner = component.build()
    kind = DegradedWhiteBox if hasattr(inner, "attribute") else DegradedAsker
    return kind(inner, component, share=share, draw=draw)


degraded.facts = facts_of_inner  # type: ignore[attr-defined]  # the registry asks it once the parameters are known


def places(n: int, share: float, rng: np.random.Generator) -> Ints:
    """Returns where each of ``n`` places takes its score from, ``(n,)``: a permutation that leaves the rest alone.

    With ``share=1`` every permutation is as likely. The same generator gives nested choices for growing shares.
    """
    taking_part = rng.permutation(n)[: max(2, int(np.ceil(share * n - 1e-9)))]  # 0.1 * 30 is above 3
    found = np.arange(n)
    found[taking_part] = rng.permutation(taking_part)
    return found


class DegradedAsker:
    """A black-box method, a share of whose scores changed places.

    Args:
        inner: The method.
        component: How it is called, for its cost.
        share: Of the units that take part.
        draw: Which draw.
    """

    def __init__(self, inner: Any, component: Component[MethodFacts], *, share: float, draw: int) -> None:
        self.inner, self.component = inner, component
        self.share, self.draw = share, draw

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Estimate]:
        """Returns the inner method's scores ``(m,)`` in other places, each with its error."""
        found = yield from self.inner.ask(game, rng)
        scores, errors, stats = found if isinstance(found, Estimate) else Estimate(found)
        taken = places(game.n_units, self.share, generator("degraded", self.draw, game.n_units, *game.words))

        def moved(values: Floats) -> Floats:
            return np.asarray(values)[taken]

        return Estimate(moved(scores), None if errors is None else moved(errors), stats)


class DegradedWhiteBox:
    """A white-box method, a share of whose scores changed places, token by token.

    A batch does not tell which tokens make a word: what is kept are the values of tokens, which the words that they
    come to stand in then add up as the inner method does.

    Args:
        inner: The method.
        component: How it is called, for its cost.
        share: Of the tokens that take part.
        draw: Which draw.
    """

    def __init__(self, inner: Any, component: Component[MethodFacts], *, share: float, draw: int) -> None:
        self.inner, self.component = inner, component
        self.share, self.draw = share, draw

    @property
    def aggregate(self) -> str:
        """How tokens become a word: as in the inner method."""
        return str(getattr(self.inner, "aggregate", "sum"))

    @property
    def rows(self) -> int:
        """Rows per example in one forward pass."""
        return int(getattr(self.inner, "rows", 1))

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the inner method's scores, (B, L), in other places among those that can be attributed."""
        explained = self.inner.attribute(model, batch, targets, rngs)
        scores = explained.scores.clone()
        for row, ids in enumerate(batch.ids):
            scorable = torch.nonzero(batch.scorable[row])[:, 0]
            text = ids[scorable].tolist()
            taken = places(len(text), self.share, generator("degraded", self.draw, *text))
            scores[row, scorable] = explained.scores[row, scorable[torch.from_numpy(taken).to(scorable.device)]]
        return Explained(scores, explained.stats)
