"""Relevance propagation: F handed back through the layers by rules that are meant to conserve it (methods spec 7.1).

The rules are in ``relevance_rules``. Under those of AH and LN, with the identity rule and without biases, the
relevance of every layer sums to F exactly; with biases the rest is what the biases contribute. Under AttnLRP it does
not: the rule of the softmax leaks.

Layer-wise relevance propagation is patented for commercial use. This is an implementation from the published
equations; no patent rights are granted with it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.attending import Rule
from attrlab.bench.batch import Batch, Explained, Targets, filled
from attrlab.bench.model import TextModel
from attrlab.bench.states import SITES, embed, forward, hidden_states
from attrlab.methods.relevance_rules import HeadRule, propagating

ACTIVATIONS = ("identity", "gradient")
"""What flows back through GELU, ReLU and tanh: ``f(x) / x``, or the gradient."""


class Relevance(NamedTuple):
    """Relevance of every position, special ones included.

    Attributes:
        layers: (K, B, n), one row per layer that was asked for; the relevance at padding is 0.
        explained: (B,) F, the scalar that was handed back.
    """

    layers: Tensor
    explained: Tensor


def relevance(
    model: TextModel, batch: Batch, targets: Targets, heads: Rule, *, readout: str = "h0", identity: bool = True
) -> Relevance:
    """Returns the relevance at the model's input, ``R_j = sum_i x_ji dF/dx_ji`` by the rules; one layer (signed).

    Cost: one forward and one backward pass.

    Args:
        model: The model.
        batch: B examples.
        targets: What is explained.
        heads: Rule of attention.
        readout: ``h0`` (input of the first block) or ``words`` (word embeddings; position and type embeddings then
            absorb part of the relevance).
        identity: Identity rule for activations, else their gradient.
    """
    inputs = embed(model, batch, readout).detach().requires_grad_()
    with torch.enable_grad(), propagating(model, heads, identity=identity):
        explained = targets.of(forward(model, batch, inputs, site=readout).logits, batch)
    return _collect([inputs], explained)


def layer_relevance(
    model: TextModel, batch: Batch, targets: Targets, heads: Rule, *, identity: bool = True
) -> Relevance:
    """Returns the relevance R^k of h^0 .. h^L, (L + 1, B, n); layers are numbered as in ``bench.states``.

    Cost: one forward and one backward pass.

    Args:
        model: The model.
        batch: B examples.
        targets: What is explained.
        heads: Rule of attention.
        identity: Identity rule for activations, else their gradient.
    """
    inputs = embed(model, batch, "h0").detach().requires_grad_()
    with torch.enable_grad(), propagating(model, heads, identity=identity), hidden_states(model) as found:
        explained = targets.of(forward(model, batch, inputs, site="h0").logits, batch)
    return _collect([inputs, *found], explained)


def _collect(states: Sequence[Tensor], explained: Tensor) -> Relevance:
    gradients = torch.autograd.grad(explained.sum(), states)
    products = [(state * gradient).sum(-1) for state, gradient in zip(states, gradients, strict=True)]
    return Relevance(torch.stack(products).detach(), explained.detach())


def explanation(found: Relevance, size: int | None = None) -> Explained:
    """Returns the first ``size`` rows of the one layer, each with its ``conservation_gap``: F minus all relevance."""
    scores = found.layers[0][:size]
    gap = found.explained[:size] - scores.sum(1)
    return Explained(scores, [{"conservation_gap": value} for value in gap.tolist()])


class ConservativeLRP:
    """Attributes by relevance under constant attention weights and LayerNorm deviations (methods spec 7.1; signed).

    Ali et al. 2022, "XAI for Transformers: Better Explanations through Conservative Propagation" (AH+LN).

    Args:
        readout: Where relevance is read: ``h0`` (input of the first block) or ``words`` (word embeddings).
        activation: ``identity``, or ``gradient``, which is not conservative for GELU and tanh (BERT, GPT-2).

    Raises:
        ValueError: If a name is unknown.
    """

    aggregate = "sum"
    rows = 1

    def __init__(self, *, readout: str = "h0", activation: str = "identity") -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r}; allowed: {', '.join(ACTIVATIONS)}")
        self.readout = check_readout(readout, SITES)
        self.identity = activation == "identity"

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the relevance of every token, (B, L); what is missing to F belongs to the biases.

        Raises:
            NotApplicableError: If there are no rules for the model.
        """
        rule, rows = HeadRule(split=False), filled(batch)
        found = relevance(model, rows, targets, rule, readout=self.readout, identity=self.identity)
        return explanation(found, len(batch))


class AttnLRP:
    """Attributes by relevance that also flows through the attention weights (methods spec 7.1; signed).

    It is not conservative. Achtibat et al. 2024, "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for
    Transformers".

    Args:
        readout: Where relevance is read: ``h0`` (input of the first block) or ``words`` (word embeddings).

    Raises:
        ValueError: If the name is unknown.
    """

    aggregate = "sum"
    rows = 1

    def __init__(self, *, readout: str = "h0") -> None:
        self.readout = check_readout(readout, SITES)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the relevance of every token, (B, L).

        Raises:
            NotApplicableError: If there are no rules for the model.
        """
        rows = filled(batch)
        return explanation(relevance(model, rows, targets, HeadRule(split=True), readout=self.readout), len(batch))


def check_readout(readout: str, allowed: Sequence[str]) -> str:
    """Returns ``readout``.

    Raises:
        ValueError: If it is not in ``allowed``.
    """
    if readout not in allowed:
        raise ValueError(f"readout={readout!r}; allowed: {', '.join(allowed)}")
    return readout
