"""Integrated gradients of one token at a time (methods spec 5.2)."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.model import TextModel
from attrlab.methods.gradients import length, total
from attrlab.methods.noise import in_blocks
from attrlab.methods.paths import baseline_of, check_baseline, gauss_legendre, gradient_at

TOKENS = 32
"""Tokens whose path points are in one list: bounds the memory of their gradients."""


class SequentialIntegratedGradients:
    """Attributes by integrated gradients along the line that moves one token only (methods spec 5.2; signed).

    Enguehard 2023, "Sequential Integrated Gradients: a simple but effective method for explaining language models".
    By the fundamental theorem of calculus a token's score is ``F(text) - F(text with the token at its baseline)``:
    with the baseline ``replace`` it is leave-one-out under ``replace`` at token level, at ``steps`` times its cost and
    with the error of the quadrature. The length of the same integral, ``sequential_integrated_gradients_l2``, is not.

    Args:
        steps: Gauss-Legendre nodes on each token's path.
        baseline: Where paths start: ``replace``, ``zero``, ``mean``, ``pad`` or ``unk``, see ``paths.baseline_of``.

    Raises:
        ValueError: If a value is not allowed.
    """

    aggregate = "sum"
    rows = 1
    reduce: Callable[[Tensor], Tensor] = staticmethod(total)

    def __init__(self, *, steps: int = 50, baseline: str = "replace") -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}; allowed: at least 1")
        self.steps = steps
        self.baseline = check_baseline(baseline)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns every token's own integral, (B, L); 0 where a token cannot be attributed.

        Raises:
            NotApplicableError: If the model has no token for the baseline.
        """
        start, end = baseline_of(model, batch, self.baseline), model.embed(batch).detach()
        scores = torch.zeros_like(end[..., 0])
        places = batch.scorable.nonzero()
        for first in range(0, len(places), TOKENS):
            rows, tokens = places[first : first + TOKENS].unbind(1)
            moved = self._mean_gradient(model, batch, targets, (start, end), (rows, tokens))
            scores[rows, tokens] = self.reduce((end - start)[rows, tokens] * moved)
        return Explained(scores)

    def _mean_gradient(
        self,
        model: TextModel,
        batch: Batch,
        targets: Targets,
        ends: tuple[Tensor, Tensor],
        places: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Returns the mean of dF/de_j over the path of each of T tokens j, (T, d)."""
        start, end = ends
        alphas, weights = (
            torch.tensor(values, dtype=end.dtype, device=end.device) for values in gauss_legendre(self.steps)
        )
        rows, tokens = (indices.repeat_interleave(self.steps) for indices in places)
        alpha = alphas.repeat(len(places[0]))[:, None]

        def own(part: Batch, at: Tensor) -> tuple[Tensor]:
            row, token, index = rows[at], tokens[at], torch.arange(len(at), device=at.device)
            points = end[row]
            points[index, token] = start[row, token].lerp(end[row, token], alpha[at])
            return (gradient_at(model, part, targets, points)[index, token],)

        (gradients,) = in_blocks(batch, rows, own)
        return (gradients.view(-1, self.steps, gradients.shape[-1]) * weights[:, None]).sum(1)


class SequentialIntegratedGradientsLength(SequentialIntegratedGradients):
    """Attributes by the Euclidean length of a token's own integrated gradient (methods spec 5.2, l2; unsigned)."""

    aggregate = "max"
    reduce = staticmethod(length)
