"""Mask-LRP: relevance that may pass only through attention heads with a recognisable job (methods spec 7.2).

Song et al. 2024, "Better Explain Transformers by Illuminating Important Information", arXiv 2401.09972. The important
heads are the positional and the syntactic ones of ``heads``. For the patent on relevance propagation see ``relevance``.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.attending import Record, attending
from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.errors import NotApplicableError
from attrlab.bench.model import TextModel
from attrlab.methods.gradients import inputs_of
from attrlab.methods.heads import head_counts
from attrlab.methods.relevance import check_readout, explanation, relevance
from attrlab.methods.relevance_rules import HeadRule, propagating

READOUTS = ("rollout", "h0")
"""Relevance and gradient of attention weights, rolled out over the layers; or relevance at the input of block 1."""

HEADS = ("important", "synt", "pos", "random")
"""Heads that let relevance pass: syntactic or positional ones, either kind, or as many as important ones at random."""

DIRECTIONS = ("dependent", "both")
"""From where a head must find the other word of a relation: from the dependent, or from either end."""


def masked_relevance(model: TextModel, batch: Batch, targets: Targets, heads: Tensor) -> Explained:
    """Returns the relevance at h^0 by the rules of AH and LN, with ``heads`` (B, L, H) on every head's context.

    Without biases it sums to F minus what the heads dropped. Cost: one forward and one backward pass.
    """
    rule = HeadRule(split=False, heads=heads)
    return explanation(relevance(model, batch, targets, rule))


def masked_rollout(model: TextModel, batch: Batch, targets: Targets, heads: Tensor) -> Tensor:
    """Returns the rollout of gradient times relevance of the attention weights at the pooling position, (B, n).

    Per layer ``C = mean over heads of ReLU(dF/dA * R_A)``, where R_A is half of weight times gradient by the rules of
    AttnLRP with ``heads`` (B, L, H) on the layers above; the rows of ``C + I``, divided by their sums, are multiplied
    from the first layer to the last. Every row of the product is at least 0 and sums to 1.

    Cost: two forward and two backward passes, for the gradient must be that of the model as it is.
    """
    record, rule = Record(), HeadRule(split=True, heads=heads)
    with torch.enable_grad():
        inputs, rows = inputs_of(model, batch)
        with attending(model, record):
            plain = targets.of(model.forward(batch, inputs).logits, batch)
        with propagating(model, rule):
            ruled = targets.of(model.forward(batch, inputs).logits, batch)
    gradients = torch.autograd.grad(plain.sum(), record.layers)
    masked = torch.autograd.grad(ruled.sum(), rule.probabilities)
    identity = torch.eye(batch.ids.shape[1], dtype=gradients[0].dtype, device=rows.device)
    product = identity
    for weights, gradient, other in zip(record.layers, gradients, masked, strict=True):
        step = (gradient * 0.5 * weights.detach() * other).relu().mean(1) + identity
        product = step / step.sum(-1, keepdim=True) @ product
    return product[rows, model.pool(batch)]


class MaskLRP:
    """Attributes by relevance that passes only through important heads (methods spec 7.2).

    Heads are told by ``heads.head_counts`` over the calibration set; texts without parses tell positional ones only.
    Small models may have no important head: read-out ``rollout`` then shows what the residual stream alone hands down
    to each layer's attention. It is unsigned, in [0, 1]; ``h0`` is signed. Stats of a row: how many heads are
    positional and syntactic, how many let its relevance pass (``kept``), and which share of the calibration set is
    parsed.

    Args:
        readout: ``rollout`` or ``h0``, see ``READOUTS``.
        heads: Which heads let relevance pass: ``important``, ``synt``, ``pos`` or ``random``, see ``HEADS``.
        corruption: Share of the other heads, chosen at random, that let it pass as well, in [0, 1].
        xi_pos: Share of tokens that must look at one offset.
        xi_synt: Lead over the best fixed offset.
        direction: ``dependent`` or ``both``, see ``DIRECTIONS``.
        own_position: Offset 0 counts as an offset.

    Raises:
        ValueError: If a value is not allowed.
    """

    aggregate = "sum"
    rows = 1

    def __init__(
        self,
        *,
        readout: str = "rollout",
        heads: str = "important",
        corruption: float = 0.0,
        xi_pos: float = 0.8,
        xi_synt: float = 0.1,
        direction: str = "dependent",
        own_position: bool = True,
    ) -> None:
        if heads not in HEADS:
            raise ValueError(f"heads={heads!r}; allowed: {', '.join(HEADS)}")
        if direction not in DIRECTIONS:
            raise ValueError(f"direction={direction!r}; allowed: {', '.join(DIRECTIONS)}")
        for name, value in (("corruption", corruption), ("xi_pos", xi_pos), ("xi_synt", xi_synt)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value}; allowed: from 0 to 1")
        self.readout = check_readout(readout, READOUTS)
        self.heads = heads
        self.corruption = corruption
        self.xi_pos = xi_pos
        self.xi_synt = xi_synt
        self.both = direction == "both"
        self.own_position = own_position

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the scores of every token, (B, L); of read-out ``rollout`` in [0, 1].

        Raises:
            NotApplicableError: If the calibration set is empty, there are no rules for the model, or read-out ``h0`` is
                asked for and no head lets relevance pass: every word would get 0.
        """
        counts = head_counts(model)
        found = {
            "pos": counts.positional(self.xi_pos, own=self.own_position),
            "synt": counts.syntactic(self.xi_synt, both=self.both),
        }
        chosen = torch.stack([self._choose(found["pos"], found["synt"], rng) for rng in rngs])
        weights = chosen.to(model.embedding)
        stats = [
            {
                "positional_heads": float(found["pos"].sum()),
                "syntactic_heads": float(found["synt"].sum()),
                "kept": float(mask.sum()),
                "parsed": float(counts.parsed),
            }
            for mask in chosen
        ]
        if self.readout == "rollout":
            return Explained(masked_rollout(model, batch, targets, weights), stats)
        if not chosen.any():
            raise NotApplicableError("no head of the model is important: no relevance reaches any word at h0")
        scores, gaps = masked_relevance(model, batch, targets, weights)
        return Explained(scores, [row | gap for row, gap in zip(stats, gaps, strict=True)])

    def _choose(self, positional: Tensor, syntactic: Tensor, rng: np.random.Generator) -> Tensor:
        """Returns the heads (L, H) that let the relevance of one example pass."""
        important = positional | syntactic
        chosen = {"important": important, "pos": positional, "synt": syntactic}.get(self.heads)
        if chosen is None:
            chosen = _some(torch.ones_like(important), int(important.sum()), rng)
        others = ~chosen
        return chosen | _some(others, math.floor(self.corruption * int(others.sum()) + 0.5), rng)


def _some(allowed: Tensor, number: int, rng: np.random.Generator) -> Tensor:
    """Returns ``number`` of the allowed heads (L, H), chosen at random."""
    places = np.flatnonzero(allowed.numpy())
    chosen = torch.zeros_like(allowed)
    chosen.view(-1)[torch.from_numpy(rng.choice(places, number, replace=False))] = True
    return chosen
