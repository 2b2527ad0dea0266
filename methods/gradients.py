"""Gradients of the explained scalar at the word embeddings (methods spec 4), computed by Captum."""

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from captum.attr import InputXGradient
from captum.attr import Saliency as CaptumSaliency
from torch import Tensor

from attrlab.bench.batch import Batch, Explained, Targets, filled
from attrlab.bench.errors import NotApplicableError
from attrlab.bench.model import TextModel

ROUNDING = 1e-4
"""Share of the mean absolute entry of a gradient below which its mean entry is taken for rounding."""

ScalarAt = Callable[[Tensor, Tensor], Tensor]
"""The explained scalar (R,) as a function of embeddings (R, L, d) and their rows (R,) in a batch."""


def scalar_at(model: TextModel, batch: Batch, targets: Targets) -> ScalarAt:
    """Returns the explained scalar (R,) as a function of embeddings (R, L, d) and their rows (R,) in the batch.

    The rows travel with the embeddings through Captum's expansions, so that every copy of an example keeps its mask,
    its target and its place in the count.
    """

    def forward(embeds: Tensor, rows: Tensor) -> Tensor:
        taken = batch.take(rows)
        return targets.of(model.forward(taken, embeds).logits, taken)

    return forward


def inputs_of(model: TextModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Returns the word embeddings (B, L, d) as a leaf that takes gradients, and the row numbers (B,)."""
    embeds = model.embed(batch).detach().requires_grad_()
    return embeds, torch.arange(len(batch), device=embeds.device)


def gradient(forward: ScalarAt, embeds: Tensor, rows: Tensor) -> Tensor:
    """Returns dF/de at embeddings that take gradients, (R, L, d)."""
    found: Tensor = CaptumSaliency(forward).attribute(embeds, abs=False, additional_forward_args=rows)
    return found


def product(forward: ScalarAt, embeds: Tensor, rows: Tensor) -> Tensor:
    """Returns every entry of the embeddings times its derivative, (R, L, d)."""
    found: Tensor = InputXGradient(forward).attribute(embeds, additional_forward_args=rows)
    return found.detach()


class Score(NamedTuple):
    """How a token gets its score: what is computed for every dimension, and how dimensions become one number.

    Attributes:
        parts: :func:`gradient` or :func:`product`.
        reduce: Maps (R, L, d) to (R, L).
    """

    parts: Callable[[ScalarAt, Tensor, Tensor], Tensor]
    reduce: Callable[[Tensor], Tensor]

    def at(self, forward: ScalarAt, embeds: Tensor, rows: Tensor) -> Tensor:
        """Returns the score of every token at embeddings that take gradients, (R, L)."""
        return self.reduce(self.parts(forward, embeds, rows))


def total(parts: Tensor) -> Tensor:
    """Returns the sum over dimensions, (R, L)."""
    return parts.sum(-1)


def length(parts: Tensor) -> Tensor:
    """Returns the Euclidean length over dimensions, (R, L)."""
    found: Tensor = torch.linalg.vector_norm(parts, dim=-1)
    return found


SCORES = {
    "g_l1": Score(gradient, lambda parts: parts.abs().mean(-1)),
    "g_l2": Score(gradient, lambda parts: parts.square().mean(-1)),
    "saliency": Score(gradient, length),
    "input_x_gradient": Score(product, total),
    "input_x_gradient_l2": Score(product, length),
}
"""The scores that can be averaged over noise, by their ids in the catalogue (methods spec 4)."""


class _Local:
    """Attributes by one of ``SCORES`` at the text itself: one forward and one backward pass."""

    score: ClassVar[str]
    rows = 1

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the score of every token, (B, L)."""
        full = filled(batch)
        scores = SCORES[self.score].at(scalar_at(model, full, targets), *inputs_of(model, full))
        return Explained(scores[: len(batch)])


class GradientL1(_Local):
    """Attributes by ``(1/d) sum_i |dF/de_ji|`` (methods spec 4, G-L1; unsigned)."""

    aggregate = "max"
    score = "g_l1"


class GradientL2(_Local):
    """Attributes by ``(1/d) sum_i (dF/de_ji)^2``, without a root (methods spec 4, G-L2; unsigned).

    It orders tokens as the length of the gradient does.
    """

    aggregate = "max"
    score = "g_l2"


class Saliency(_Local):
    """Attributes by the length of the gradient, ``||dF/de_j||_2`` (methods spec 4; unsigned).

    Simonyan et al. 2014, "Deep Inside Convolutional Networks".
    """

    aggregate = "max"
    score = "saliency"


class InputTimesGradient(_Local):
    """Attributes by ``e_j . dF/de_j``, the share of F if it were linear (methods spec 4; signed).

    Shrikumar et al. 2016, "Not Just a Black Box".
    """

    aggregate = "sum"
    score = "input_x_gradient"


class InputTimesGradientLength(_Local):
    """Attributes by ``||e_j * dF/de_j||_2``, entries multiplied one by one (methods spec 4, ixg_l2; unsigned)."""

    aggregate = "max"
    score = "input_x_gradient_l2"


class GradientMean:
    """Attributes by ``(1/d) sum_i dF/de_ji``, the mean entry of the gradient (methods spec 4, G-avg; signed).

    It is the change of F when all entries of an embedding are raised together. LayerNorm takes the mean out, so F does
    not change at all in BERT (which normalises its embeddings) nor where every block and the head read a residual
    stream through LayerNorm (GPT-2, OPT except OPT-350M): what is left is rounding, and such models are refused.
    """

    aggregate = "sum"
    rows = 1

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the mean entry of every token's gradient, (B, L).

        Raises:
            NotApplicableError: If it is zero for every token of an example, but for rounding.
        """
        full = filled(batch)
        found = gradient(scalar_at(model, full, targets), *inputs_of(model, full))[: len(batch)]
        scores = found.mean(-1)
        largest = (scores.abs() * batch.scorable).amax(1)
        if (largest <= ROUNDING * (found.abs().mean(-1) * batch.scorable).amax(1)).any():
            raise NotApplicableError("the mean entry of the gradient is zero but for rounding: LayerNorm removes it")
        return Explained(scores)
