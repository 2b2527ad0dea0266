"""Gradient scores averaged over noised copies of the text (methods spec 4), of gradients computed by Captum.

Captum's own ``NoiseTunnel`` draws from torch's global generator, so an example's noise would depend on its company:
the draws are ours.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.model import TextModel
from attrlab.methods.gradients import SCORES, scalar_at
from attrlab.methods.noise import natural_scale, noise_like

ROWS = 10
"""Largest number of noised copies of one example in a forward pass: bounds memory."""


class SmoothGrad:
    """Attributes by the mean of a gradient score at noised embeddings (methods spec 4; unsigned).

    Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise". The mean is of the tokens' scores, not of the
    gradients before they are reduced to a score. Special tokens get no noise.

    Args:
        base: Score to average: one of ``bases``.
        draws: Noised copies.
        tau: Standard deviation of the noise, in that of the entries of the word-embedding matrix.

    Raises:
        ValueError: If a value is not allowed.
    """

    aggregate = "max"
    bases: ClassVar[tuple[str, ...]] = ("saliency", "g_l1", "g_l2", "input_x_gradient_l2")
    least_draws: ClassVar[int] = 1

    def __init__(self, *, base: str = "saliency", draws: int = 50, tau: float = 0.5) -> None:
        if base not in self.bases:
            raise ValueError(f"base={base!r}; allowed: {', '.join(self.bases)}")
        if draws < self.least_draws:
            raise ValueError(f"draws={draws}; allowed: at least {self.least_draws}")
        if tau < 0:
            raise ValueError(f"tau={tau}; allowed: at least 0")
        self.base = base
        self.draws = draws
        self.tau = tau

    @property
    def rows(self) -> int:
        """Rows per example in one forward pass."""
        return min(ROWS, self.draws)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns what is made of the scores over the draws, (B, L), float64."""
        forward, embeds = scalar_at(model, batch, targets), model.embed(batch).detach()
        scale = self.tau * natural_scale(model, "words", embeds, batch.scorable).to(embeds)[:, None, None]
        scores = []
        for first in range(0, self.draws, ROWS):
            count = min(ROWS, self.draws - first)
            noised = embeds + scale * noise_like(batch.scorable, embeds, (count,), rngs)
            rows = torch.arange(len(batch), device=embeds.device).repeat(count)
            found = SCORES[self.base].at(forward, noised.flatten(0, 1).requires_grad_(), rows)
            scores.append(found.view(count, *batch.ids.shape))
        return Explained(self.summary(torch.cat(scores).double()))

    def summary(self, scores: Tensor) -> Tensor:
        """Returns the mean over draws: (N, B, L) to (B, L)."""
        return scores.mean(0)


class SmoothGradSigned(SmoothGrad):
    """Attributes by the mean of input times gradient at noised embeddings (methods spec 4; signed).

    Args:
        draws: Noised copies.
        tau: Standard deviation of the noise, in that of the entries of the word-embedding matrix.

    Raises:
        ValueError: If a value is not allowed.
    """

    aggregate = "sum"
    bases = ("input_x_gradient",)

    def __init__(self, *, draws: int = 50, tau: float = 0.5) -> None:
        super().__init__(base="input_x_gradient", draws=draws, tau=tau)


class SquareGrad(SmoothGrad):
    """Attributes by the mean square of a gradient score at noised embeddings (methods spec 4; unsigned).

    Hooker et al. 2019, "A Benchmark for Interpretability Methods in Deep Neural Networks" (SmoothGrad-Squared). For
    ``saliency`` it is the mean squared length of the gradient.
    """

    bases = tuple(SCORES)

    def summary(self, scores: Tensor) -> Tensor:
        """Returns the mean square over draws: (N, B, L) to (B, L)."""
        return scores.square().mean(0)


class VarGrad(SquareGrad):
    """Attributes by the variance of a gradient score over noised embeddings (methods spec 4; unsigned).

    Adebayo et al. 2018, "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values".
    The variance is that of the draws (divided by N), as in Captum.
    """

    least_draws = 2

    def summary(self, scores: Tensor) -> Tensor:
        """Returns the variance over draws: (N, B, L) to (B, L)."""
        return scores.var(0, correction=0)
