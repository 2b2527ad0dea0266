"""A place inside attention where weights can be read, scaled, or given other rules for their gradients.

Transformers lets a model be told which function computes its attention; ours computes it in the plainest way and asks
a rule at every step. A rule that changes nothing gives the model's own answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from attrlab.bench.model import TextModel

_NAME = "attrlab"


class Rule:
    """What is done to the parts of attention of layer 0..L-1; this one leaves them as they are.

    R rows, H heads, L tokens, D dimensions of a head.
    """

    def inputs(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values, each (R, H, L, D), before they are multiplied."""
        return query, key, value

    def weights(self, layer: int, weights: Tensor) -> Tensor:
        """Returns the attention probabilities (R, H, L, L), query by key, that weigh the values."""
        return weights

    def context(self, layer: int, context: Tensor) -> Tensor:
        """Returns the weighted values of every head (R, H, L, D)."""
        return context


class Record(Rule):
    """Keeps the attention probabilities of every layer, (R, H, L, L), in the graph of the forward pass.

    Attributes:
        layers: Those of the passes made so far, layer by layer.
    """

    def __init__(self) -> None:
        self.layers: list[Tensor] = []

    def weights(self, layer: int, weights: Tensor) -> Tensor:
        """Keeps the weights and returns them."""
        self.layers.append(weights)
        return weights


_rule: ContextVar[Rule] = ContextVar("rule")


@contextmanager
def attending(model: TextModel, rule: Rule) -> Iterator[None]:
    """Has every attention layer of the model follow a rule while the block runs."""
    before = model.network.config._attn_implementation
    token = _rule.set(rule)
    model.network.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.network.set_attn_implementation(before)
        _rule.reset(token)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Computes attention as transformers' ``eager`` does (no dropout: the model is in ``eval`` mode)."""
    rule, layer = _rule.get(), module.layer_idx
    query, key, value = rule.inputs(layer, query, key, value)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = rule.weights(layer, scores.softmax(-1))
    return rule.context(layer, weights @ value).transpose(1, 2), weights


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, eager_mask)
