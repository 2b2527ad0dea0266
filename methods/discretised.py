"""Integrated gradients along a walk through real words (methods spec 5.5)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.model import TextModel
from attrlab.methods.paths import ROWS, baseline_of, change_between, completeness, gradients_at

WALKERS = 8
"""Tokens that walk together, always as many: a matrix product's last bits depend on its shape."""

SAME = 1e-4
"""Squared distance, as a share of the mean squared length of a word, below which a word is where one stands."""

STRATEGIES = ("greedy", "maxcount")


def between(words: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Returns which entries of words (..., d) lie between those of two points, ends included."""
    return (words - one) * (words - other) <= 0


class Walk:
    """Walks from words to the baseline over neighbouring words of the vocabulary.

    At every step the neighbours of the last word are compared after they have been made monotone: an entry that does
    not lie between the last word's and the baseline's is moved 1/steps of the way from the one to the other.

    Args:
        vocabulary: (V, d) embeddings.
        end: Id of the baseline word.
        steps: Steps of a walk, the last of which ends at the baseline.
        neighbours: Nearest words to choose from.
        strategy: ``greedy`` takes the word that moves least on being made monotone, ``maxcount`` the one of which
            fewest entries move.
    """

    def __init__(self, vocabulary: Tensor, end: int, *, steps: int, neighbours: int, strategy: str) -> None:
        self.vocabulary = vocabulary
        self.end = end
        self.steps = steps
        self.neighbours = min(neighbours, len(vocabulary))
        self.strategy = strategy
        self._squares = vocabulary.square().sum(1)

    def path(self, starts: Tensor) -> Tensor:
        """Returns where the walks from (T, d) are after 0..steps steps, (steps + 1, T, d), every entry monotone."""
        slots = torch.arange(WALKERS, device=starts.device)
        parts = []
        for first in range(0, len(starts), WALKERS):
            count = min(WALKERS, len(starts) - first)
            parts.append(self._walk(starts[first + slots % count])[:, :count])
        return torch.cat(parts, 1)

    def _walk(self, starts: Tensor) -> Tensor:
        base = self.vocabulary[self.end]
        visited = torch.zeros(len(starts), len(self.vocabulary), dtype=torch.bool, device=starts.device)
        visited[:, self.end] = True
        last, points = starts, [starts]
        for _ in range(self.steps - 1):
            chosen = self._choose(last, visited)
            visited[torch.arange(len(chosen)), chosen] = True
            last = self.vocabulary[chosen]
            points.append(self._monotone(last, points[-1]))
        return torch.stack([*points, base.expand_as(starts)])

    def _monotone(self, words: Tensor, start: Tensor) -> Tensor:
        base = self.vocabulary[self.end]
        return torch.where(between(words, start, base), words, start + (base - start) / self.steps)

    def _choose(self, last: Tensor, visited: Tensor) -> Tensor:
        """Returns the next word of each walk, (T,); the baseline where no neighbour is left."""
        squares = self._squares - 2 * last @ self.vocabulary.T + last.square().sum(1, keepdim=True)
        near = squares.topk(self.neighbours, largest=False)
        words, here = self.vocabulary[near.indices], last[:, None]
        if self.strategy == "greedy":
            cost = (words - self._monotone(words, here)).square().sum(-1)
        else:
            cost = (~between(words, here, self.vocabulary[self.end])).sum(-1).to(last)
        barred = visited.gather(1, near.indices) | (near.values < SAME * self._squares.mean())
        best = cost.masked_fill(barred, torch.inf).argmin(1, keepdim=True)
        chosen = near.indices.gather(1, best).masked_fill(barred.gather(1, best), self.end)
        return chosen[:, 0]


class DiscretisedIntegratedGradients:
    """Attributes by gradients along a walk from the baseline to the text over real words (spec 5.5; signed).

    Sanyal and Ren 2021, "Discretized Integrated Gradients for Explaining Language Models". Every token walks from its
    word to the replacement token through neighbours in the vocabulary; the gradients at the points of that path, times
    the step to the next one, are summed (a left Riemann sum, so completeness holds only roughly).

    Args:
        steps: Steps of the path.
        neighbours: Nearest words from which a step chooses.
        strategy: ``greedy`` or ``maxcount``, see :class:`Walk`.

    Raises:
        ValueError: If a value is not allowed.
    """

    aggregate = "sum"

    def __init__(self, *, steps: int = 30, neighbours: int = 500, strategy: str = "greedy") -> None:
        if steps < 1 or neighbours < 1:
            raise ValueError(f"steps={steps}, neighbours={neighbours}; allowed: at least 1")
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy={strategy!r}; allowed: {', '.join(STRATEGIES)}")
        self.steps = steps
        self.neighbours = neighbours
        self.strategy = strategy

    @property
    def rows(self) -> int:
        """Path points of one example that are held at once."""
        return min(ROWS, self.steps)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the sum along the path, (B, L), and by how much it misses the change of F."""
        start, end = baseline_of(model, batch, "replace"), model.embed(batch).detach()
        path = start.repeat(self.steps + 1, 1, 1, 1)
        path[:, batch.scorable] = self._walk(model).path(end[batch.scorable]).flip(0)
        parts = torch.zeros_like(end)
        for first in range(0, self.steps, ROWS):
            points = path[first : min(first + ROWS, self.steps) + 1]
            gradients = gradients_at(model, batch, targets, points[:-1])
            for step, gradient in zip(points.diff(dim=0), gradients, strict=True):
                parts += step * gradient
        gap = completeness(parts, batch.scorable, change_between(model, batch, targets, start, end))
        return Explained(parts.sum(-1), [{"completeness_gap": value} for value in gap.tolist()])

    def _walk(self, model: TextModel) -> Walk:
        return Walk(
            model.embedding.detach(),
            model.replace_id,
            steps=self.steps,
            neighbours=self.neighbours,
            strategy=self.strategy,
        )
