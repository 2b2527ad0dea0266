"""Attention weights as importance (methods spec 6).

Attention is where a model looks, which is not by itself why it decides: models with the same answers can attend
elsewhere. In causal models earlier tokens have more readers than later ones, and their first token often takes what no
other needs, so products over layers pile up on it (the attention sink): report that, do not interpret it.

Scores are weights received. Special tokens receive much of it; they are left out, and nothing is scaled up for that.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.attending import Record, attending
from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.model import TextModel

HEADS = ("mean", "max")
"""How the heads of a layer become one matrix. Their sum is their mean but for a factor that all tokens share."""

LAYERS = ("mean", "last", "product")
"""How layers become one: ``product`` is ``A^L ... A^1``, attention followed down to the words."""


def check_heads(heads: str) -> str:
    """Returns ``heads``.

    Raises:
        ValueError: If it is not one of ``HEADS``.
    """
    if heads not in HEADS:
        raise ValueError(f"heads={heads!r}; allowed: {', '.join(HEADS)}")
    return heads


@torch.no_grad()
def layers_of(model: TextModel, batch: Batch, heads: str = "mean") -> list[Tensor]:
    """Returns the attention of every layer with its heads made one, each (B, n, n), query by key, from one forward."""
    record = Record()
    with attending(model, record):
        model.forward(batch)
    return [layer.amax(1) if heads == "max" else layer.mean(1) for layer in record.layers]


def pooling_query(model: TextModel, batch: Batch, like: Tensor) -> Tensor:
    """Returns the pooling position as weights of queries, (B, n): 1 there, else 0; of the data type of ``like``."""
    positions = torch.arange(batch.ids.shape[1], device=like.device)
    return (positions == model.pool(batch)[:, None]).to(like)


def every_query(batch: Batch, like: Tensor) -> Tensor:
    """Returns equal weights of all queries but padding, (B, n), with sum 1; of the data type of ``like``."""
    real = batch.mask.to(like)
    return real / real.sum(1, keepdim=True)


def received(query: Tensor, matrix: Tensor) -> Tensor:
    """Returns what every key receives, (B, n), from queries weighed by (B, n) through a matrix (B, n, n)."""
    return (query[:, None] @ matrix)[:, 0]


class AttentionLast:
    """Attributes by the attention that the pooling position pays in the last layer (methods spec 6; unsigned).

    It is ``A^L[q, :]`` over heads. It explains no class: the same for every target.

    Args:
        heads: One of ``HEADS``.

    Raises:
        ValueError: If there is no such way.
    """

    aggregate = "sum"
    rows = 1

    def __init__(self, *, heads: str = "mean") -> None:
        self.heads = check_heads(heads)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the attention paid to every token, (B, n), in [0, 1]; means over all positions sum to 1."""
        last = layers_of(model, batch, self.heads)[-1]
        return Explained(received(pooling_query(model, batch, last), last))


class AttentionAll:
    """Attributes by the attention that all tokens pay, mean over queries (methods spec 6; unsigned).

    Queries are all tokens, special ones too, but padding. It explains no class: the same for every target. In causal
    models early tokens have more readers, and score higher for that alone.

    Args:
        heads: One of ``HEADS``.
        layers: One of ``LAYERS``.

    Raises:
        ValueError: If there is no such way.
    """

    aggregate = "sum"
    rows = 1

    def __init__(self, *, heads: str = "mean", layers: str = "mean") -> None:
        if layers not in LAYERS:
            raise ValueError(f"layers={layers!r}; allowed: {', '.join(LAYERS)}")
        self.heads = check_heads(heads)
        self.layers = layers

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the attention paid to every token, (B, n), at least 0; means over heads sum to 1."""
        layers = layers_of(model, batch, self.heads)
        query = every_query(batch, layers[0])
        if self.layers == "mean":
            return Explained(received(query, torch.stack(layers).mean(0)))
        for layer in layers[:-2:-1] if self.layers == "last" else layers[::-1]:
            query = received(query, layer)
        return Explained(query)


class AttentionRollout:
    """Attributes by attention followed from the pooling position down through all layers (methods spec 6; unsigned).

    It is row q of ``Â^L ... Â^1`` with ``Â = (A + I) / 2``: half of everything goes through the residual stream. Of the
    maximum over heads the rows are scaled to sum 1. It explains no class: the same for every target. Where the pooling
    position is itself a word (decoders without a readout token), ``2^-L`` of the total is that word's by the identity
    alone. Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers".

    Args:
        heads: One of ``HEADS``.

    Raises:
        ValueError: If there is no such way.
    """

    aggregate = "sum"
    rows = 1

    def __init__(self, *, heads: str = "mean") -> None:
        self.heads = check_heads(heads)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the share of every token, (B, n), in [0, 1]; over all positions it sums to 1."""
        layers = layers_of(model, batch, self.heads)
        row = pooling_query(model, batch, layers[0])
        same = torch.eye(row.shape[1], dtype=row.dtype, device=row.device)
        for layer in reversed(layers):
            mixed = layer + same
            row = received(row, mixed / mixed.sum(-1, keepdim=True))
        return Explained(row)
