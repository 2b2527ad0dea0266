"""Function-preserving rewrites: the same function of the input, computed by other weights (metrics spec 5.7).

What depends on the function alone must not change with them; what reads attention weights, or splits relevance by
the weights it finds, may.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Where an architecture keeps the parts of its blocks, as paths from the base model or from a block.

    Attributes:
        blocks: The blocks.
        attention: The module that knows the number of heads.
        projections: Queries, keys and values: three matrices, or one that holds all three.
        output: What mixes the heads.
        up: Into the feed-forward units.
        down: Out of them.
    """

    blocks: str
    attention: str
    projections: tuple[str, ...]
    output: str
    up: str
    down: str


_PARTS = {
    "bert": _Parts(
        blocks="encoder.layer",
        attention="attention.self",
        projections=("attention.self.query", "attention.self.key", "attention.self.value"),
        output="attention.output.dense",
        up="intermediate.dense",
        down="output.dense",
    ),
    "gpt2": _Parts(
        blocks="h",
        attention="attn",
        projections=("attn.c_attn",),
        output="attn.c_proj",
        up="mlp.c_fc",
        down="mlp.c_proj",
    ),
    "opt": _Parts(
        blocks="decoder.layers",
        attention="self_attn",
        projections=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        output="self_attn.out_proj",
        up="fc1",
        down="fc2",
    ),
}
"""The architectures whose weights can be rewritten, by ``config.model_type``."""

_OTHER_ATTENTION = {"sdpa": "eager", "eager": "sdpa"}
"""The fused kernel for the plain products, and the other way round."""


def rewrites(network: Any) -> tuple[str, ...]:
    """Returns the names of the rewrites that a network can take, in a fixed order."""
    config = network.config
    names: list[str] = []
    if config.model_type in _PARTS:
        names += ["scaled values", "permuted units"]
        names += ["permuted heads"] * (config.num_attention_heads > 1) + ["duplicated head"]
        names += ["folded gains"] * any(norm.weight is not None for norm, _ in _folds(network))
    return (*names, *["other attention"] * (config._attn_implementation in _OTHER_ATTENTION))


def rewrite(network: Any, name: str) -> None:
    """Rewrites a network in place.

    Args:
        network: A classifier of transformers whose weights need no gradient.
        name: One of those that :func:`rewrites` returns for it.
    """
    _REWRITES[name](network)


def _scale_values(network: Any) -> None:
    """Doubles the values of every other head and halves those of the others, and takes it back in the output.

    By powers of two no rounding changes: answers stay the same bit by bit.
    """
    for block, parts in _blocks(network):
        heads = torch.arange(_heads(network), device=network.device)
        factors = (2.0 ** (1 - 2 * (heads % 2))).repeat_interleave(_head_width(network))
        value = attrgetter(parts.projections[-1])(block)
        others = torch.ones(_outputs(value) - len(factors), device=factors.device)
        _scale_out(value, torch.cat([others, factors]))
        _scale_in(attrgetter(parts.output)(block), 1 / factors)


def _permute_units(network: Any) -> None:
    """Turns the order of the feed-forward units of every block round."""
    for block, parts in _blocks(network):
        up, down = attrgetter(parts.up, parts.down)(block)
        order = torch.arange(_outputs(up), device=network.device).flip(0)
        _take_out(up, order)
        _take_in(down, order)


def _permute_heads(network: Any) -> None:
    """Moves every head of every block one place on, the last one to the front."""
    for block, parts in _blocks(network):
        _take_heads(network, block, parts, torch.arange(_heads(network)).roll(1))


def _duplicate_head(network: Any) -> None:
    """Gives every block a second copy of its first head, and halves what both contribute."""
    heads, width = _heads(network), _head_width(network)
    copies = torch.tensor([*range(heads), 0])
    halves = torch.ones(heads + 1)
    halves[[0, -1]] = 0.5
    for block, parts in _blocks(network):
        _take_heads(network, block, parts, copies)
        _scale_in(attrgetter(parts.output)(block), halves.repeat_interleave(width).to(network.device))
        attention = attrgetter(parts.attention)(block)
        for name, size in (
            *(("num_heads", heads + 1), ("num_attention_heads", heads + 1)),
            *(("split_size", (heads + 1) * width), ("all_head_size", (heads + 1) * width)),
        ):
            if hasattr(attention, name):
                setattr(attention, name, size)
    network.config.num_attention_heads = heads + 1


def _fold_gains(network: Any) -> None:
    """Moves the gain of every LayerNorm that only matrices read into these; its bias is divided by the gain.

    A gain of 0 stays where it is.
    """
    for norm, readers in _folds(network):
        if norm.weight is None:
            continue
        gain = torch.where(norm.weight == 0, 1.0, norm.weight)
        for reader in readers:
            _scale_in(reader, gain)
        norm.weight /= gain
        norm.bias /= gain


def _switch_attention(network: Any) -> None:
    network.set_attn_implementation(_OTHER_ATTENTION[network.config._attn_implementation])


_REWRITES: dict[str, Callable[[Any], None]] = {
    "scaled values": _scale_values,
    "permuted units": _permute_units,
    "permuted heads": _permute_heads,
    "duplicated head": _duplicate_head,
    "folded gains": _fold_gains,
    "other attention": _switch_attention,
}


def _folds(network: Any) -> Iterator[tuple[Any, Sequence[Any]]]:
    """Yields every LayerNorm that only matrices read, and these.

    After a residual sum (BERT, OPT-350M) the next sum reads a LayerNorm too, save the very last one.
    """
    base, kind, last = network.base_model, network.config.model_type, None
    for block, parts in _blocks(network):
        projections = [attrgetter(path)(block) for path in parts.projections]
        up = attrgetter(parts.up)(block)
        if kind == "gpt2":
            yield from [(block.ln_1, projections), (block.ln_2, [up])]
            last = base.ln_f
        elif kind == "opt" and block.do_layer_norm_before:
            yield from [(block.self_attn_layer_norm, projections), (block.final_layer_norm, [up])]
            last = base.decoder.final_layer_norm
        else:
            last = block.output.LayerNorm if kind == "bert" else block.final_layer_norm
    reader = _last_reader(network)
    if last is not None and reader is not None:
        yield last, [reader]


def _last_reader(network: Any) -> Any:
    """Returns the matrix that reads the last state, or None (a language model: its head is the word embeddings)."""
    base = network.base_model
    pooler, projection = getattr(base, "pooler", None), getattr(getattr(base, "decoder", None), "project_out", None)
    return pooler.dense if pooler is not None else projection or getattr(network, "score", None)


def _blocks(network: Any) -> list[tuple[Any, _Parts]]:
    parts = _PARTS[network.config.model_type]
    return [(block, parts) for block in attrgetter(parts.blocks)(network.base_model)]


def _heads(network: Any) -> int:
    return int(network.config.num_attention_heads)


def _head_width(network: Any) -> int:
    return int(network.config.hidden_size) // _heads(network)


def _take_heads(network: Any, block: Any, parts: _Parts, heads: Tensor) -> None:
    """Makes these heads, in this order, the heads of a block."""
    width = _head_width(network)
    rows = (heads[:, None] * width + torch.arange(width)).flatten().to(network.device)
    for path in parts.projections:
        module = attrgetter(path)(block)
        starts = range(0, _outputs(module), network.config.hidden_size)
        _take_out(module, torch.cat([start + rows for start in starts]))
    _take_in(attrgetter(parts.output)(block), rows)


# Linear layers keep a matrix (out, in), GPT-2's Conv1D its transpose.


def _matrix(module: Any) -> Tensor:
    weight: Tensor = module.weight.data
    return weight if isinstance(module, nn.Linear) else weight.T


def _outputs(module: Any) -> int:
    return len(_matrix(module))


def _scale_out(module: Any, factors: Tensor) -> None:
    _matrix(module).mul_(factors[:, None])
    if module.bias is not None:
        module.bias.data.mul_(factors)


def _scale_in(module: Any, factors: Tensor) -> None:
    _matrix(module).mul_(factors)


def _take_out(module: Any, rows: Tensor) -> None:
    _put(module, _matrix(module)[rows])
    if module.bias is not None:
        module.bias = nn.Parameter(module.bias.data[rows], requires_grad=False)


def _take_in(module: Any, columns: Tensor) -> None:
    _put(module, _matrix(module)[:, columns])


def _put(module: Any, matrix: Tensor) -> None:
    linear = isinstance(module, nn.Linear)
    module.weight = nn.Parameter((matrix if linear else matrix.T).contiguous(), requires_grad=False)
    for name, size in zip(("out_features", "in_features") if linear else ("nf", "nx"), matrix.shape, strict=True):
        setattr(module, name, size)
