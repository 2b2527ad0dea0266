"""Gradients of the explained scalar at the word embeddings (methods spec 4), computed by Captum."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from captum.attr import InputXGradient
from captum.attr import Saliency as CaptumSaliency
from torch import Tensor

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.model import TextModel


def scalar_at(model: TextModel, batch: Batch, targets: Targets) -> Callable[[Tensor, Tensor], Tensor]:
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


class Saliency:
    """Attributes by the length of the gradient, ``||dF/de_j||_2`` (methods spec 4; unsigned).

    Simonyan et al. 2014, "Deep Inside Convolutional Networks".
    """

    aggregate = "max"
    rows = 1

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the gradient norm of every token, (B, L), at least 0."""
        embeds, rows = inputs_of(model, batch)
        gradient = CaptumSaliency(scalar_at(model, batch, targets)).attribute(
            embeds, abs=False, additional_forward_args=rows
        )
        return Explained(gradient.norm(dim=-1))


class InputTimesGradient:
    """Attributes by ``e_j . dF/de_j``, the share of F if it were linear (methods spec 4; signed).

    Shrikumar et al. 2016, "Not Just a Black Box".
    """

    aggregate = "sum"
    rows = 1

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the product of embedding and gradient summed over dimensions, (B, L)."""
        embeds, rows = inputs_of(model, batch)
        product = InputXGradient(scalar_at(model, batch, targets)).attribute(embeds, additional_forward_args=rows)
        return Explained(product.sum(-1).detach())
