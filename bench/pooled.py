"""The last block of a transformer, computed only where the head of the model reads.

What a classifier answers depends on the last block's output at one position per row. Of the other positions the block
needs keys and values; their queries, attention and feed-forward part are work that nobody looks at, one sixth of a
model of six blocks nearly. Answers are the same but for rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from attrlab.bench.model import TextModel
from attrlab.bench.states import blocks

Projected = tuple[Tensor, Tensor]
"""Keys and values of an attention layer, side by side for all heads, (R, L, D) each."""


def _bert(block: Any, hidden: Tensor) -> Projected:
    attention = block.attention.self
    return attention.key(hidden), attention.value(hidden)


def _gpt2(block: Any, hidden: Tensor) -> Projected:
    joint, width = block.attn.c_attn, block.attn.c_attn.weight.shape[1] // 3
    normed = block.ln_1(hidden).flatten(0, 1)
    both = torch.addmm(joint.bias[width:], normed, joint.weight[:, width:]).view(*hidden.shape[:2], 2, width)
    return both[:, :, 0], both[:, :, 1]


def _opt(block: Any, hidden: Tensor) -> Projected:
    normed = block.self_attn_layer_norm(hidden) if block.do_layer_norm_before else hidden
    return block.self_attn.k_proj(normed), block.self_attn.v_proj(normed)


_PROJECTIONS: dict[str, Callable[[Any, Tensor], Projected]] = {"bert": _bert, "gpt2": _gpt2, "opt": _opt}


class _Known(NamedTuple):
    """Stands where a block expects a cache, and tells it the keys and values of all positions, (R, heads, L, d)."""

    keys: Tensor
    values: Tensor

    def update(self, _keys: Tensor, _values: Tensor, *_layer: Any, **_options: Any) -> Projected:
        return self.keys, self.values


def _attend(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Computes attention of one query per row: what torch has for many rounds differently from row to row."""
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, -torch.inf)
    weights = scores.softmax(-1).nan_to_num()  # a position that may look nowhere sees nothing
    return (weights @ value).transpose(1, 2), None


_USUAL, _NAME = "sdpa", "attrlab-one-query"

AttentionInterface.register(_NAME, _attend)


def applies(model: TextModel) -> bool:
    """Whether the model's head reads one position per row, and its blocks are of a kind that is known here."""
    plain = type(model).forward is TextModel.forward and model.network.config._attn_implementation == _USUAL
    return plain and model.network.config.model_type in _PROJECTIONS


@contextmanager
def pooled(model: TextModel, pool: Tensor) -> Iterator[None]:
    """Has the last block compute what it gives at one position of each row, while R rows are run.

    Its output has the usual shape (R, L, D): at every position, what belongs to the one that was asked for. Nothing
    happens to a model of another kind.

    Args:
        model: The model.
        pool: (R,) the positions, counted from the first token that is run (others may precede in a cache).
    """
    if not applies(model):
        yield
        return
    *_, block = blocks(model)
    narrow = _Narrow(model, pool)
    handles = [
        block.register_forward_pre_hook(narrow, with_kwargs=True),
        block.register_forward_hook(narrow.widen),
    ]
    try:
        yield
    finally:
        narrow.config._attn_implementation = _USUAL
        for handle in handles:
            handle.remove()


class _Narrow:
    """Gives a block the states (R, 1, D) at the pooling positions, and the keys and values of all of them."""

    def __init__(self, model: TextModel, pool: Tensor) -> None:
        self.config = model.network.config
        self.project = _PROJECTIONS[self.config.model_type]
        self.heads, self.layer = self.config.num_attention_heads, self.config.num_hidden_layers - 1
        self.causal, self.pool, self.length = model.decoder, pool, 0

    def __call__(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden, *others = args
        rows, self.length, _ = hidden.shape
        shape = (rows, self.length, self.heads, -1)
        keys, values = (part.view(shape).transpose(1, 2) for part in self.project(block, hidden))
        for cache in (one for one in (*others, *kwargs.values()) if isinstance(one, Cache)):
            keys, values = cache.update(keys, values, self.layer)
        masks = [one for one in (*others, kwargs.get("attention_mask")) if isinstance(one, Tensor)]
        at = torch.arange(rows, device=hidden.device)
        seen = {"attention_mask": self._seen(masks, at, keys.shape[2]), "past_key_values": _Known(keys, values)}
        self.config._attn_implementation = _NAME
        return (hidden[at, self.pool][:, None],), seen

    def widen(self, _block: nn.Module, _args: Any, output: Tensor) -> Tensor:
        """Returns the output (R, 1, D) of the block in the shape in which the model expects it."""
        self.config._attn_implementation = _USUAL
        return output.expand(-1, self.length, -1)

    def _seen(self, masks: Sequence[Tensor], at: Tensor, keys: int) -> Tensor | None:
        """Returns where each of the positions may look, (R, 1, 1, K), of where all may; None for everywhere."""
        if masks:
            return masks[0].expand(len(at), -1, self.length, -1)[at, :, self.pool][:, :, None]
        if self.causal:
            last = keys - self.length + self.pool
            return (torch.arange(keys, device=at.device) <= last[:, None])[:, None, None]
        return None
