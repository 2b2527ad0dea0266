"""Hidden states of every block of a model, and the two sites where noise may enter it.

Layers are numbered as in transformers: h^k is the output of block k, k = 1..L, but h^L is ``last_hidden_state``: after
the final norm of GPT-2 and OPT, and after OPT-350M's projection down to the width of its word embeddings, which is
narrower than that of the other states. So the pooled h^L is the readout, for every family.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from attrlab.bench.batch import Batch, Output
from attrlab.bench.errors import UserError
from attrlab.bench.model import TextModel

SITES = ("words", "h0")
"""Where noise enters: word embeddings, or the input of the first block (positions and types added; BERT: LayerNorm
applied; OPT-350M: projected up)."""

_BLOCKS = ("encoder.layer", "decoder.layers", "h", "layers", "transformer.layer")
"""Where an architecture keeps its blocks: BERT, OPT, GPT-2; Llama and its like; DistilBERT."""


class _StopForwardError(Exception):
    """Ends a forward pass once everything asked for is known."""


def check_site(site: str) -> str:
    """Returns ``site``.

    Raises:
        ValueError: If it is not one of ``SITES``.
    """
    if site not in SITES:
        raise ValueError(f"site={site!r}; allowed: {', '.join(SITES)}")
    return site


def depth(model: TextModel) -> int:
    """Returns L, the number of blocks."""
    return len(blocks(model))


def check_layer(model: TextModel, layer: int) -> int:
    """Returns ``layer``.

    Raises:
        UserError: If the model has no such block.
    """
    if not 1 <= layer <= depth(model):
        raise UserError(f"layer {layer} of model {model.name!r}; allowed: 1 to {depth(model)}")
    return layer


def embed(model: TextModel, batch: Batch, site: str = "words") -> Tensor:
    """Returns the clean input of a site, noise offset included: (R, L, d), of the width of the site.

    It costs nobody a forward pass: at most the embedding module runs.
    """
    if check_site(site) == "words":
        return model.embed(batch)
    found: list[Tensor] = []

    def stop(_module: Any, args: Any, kwargs: Any) -> None:
        found.append(_hidden_input(args, kwargs))
        raise _StopForwardError

    with _hooks(_before_first(model, stop)), suppress(_StopForwardError):
        model.backbone(batch)
    return found[0]


def forward(model: TextModel, batch: Batch, embeds: Tensor | None = None, *, site: str = "words") -> Output:
    """Returns logits and readout of R rows, from the input of a site in place of the rows' own.

    Args:
        model: The model.
        batch: R rows.
        embeds: (R, L, d) what enters at the site; None uses the batch's own.
        site: One of ``SITES``.
    """
    if check_site(site) == "words" or embeds is None:
        return model.forward(batch, embeds)
    with _hooks(_swap(model, embeds)):
        return model.forward(batch)


def states(
    model: TextModel, batch: Batch, embeds: Tensor | None = None, *, site: str = "words", upto: int | None = None
) -> tuple[Tensor, ...]:
    """Returns h^1 .. h^upto, each (R, L, d_h), differentiable; d_h of h^L may differ (OPT-350M).

    The pass ends after block ``upto``. Truncated or not, it counts as one forward pass of each row, and every
    gradient that is taken through the first block as one backward pass.

    Args:
        model: The model.
        batch: R rows.
        embeds: (R, L, d) what enters at the site; None uses the batch's own.
        site: One of ``SITES``.
        upto: Last layer to run, 1..L; None for all.

    Raises:
        UserError: If the model has no such layer.
    """
    stack = blocks(model)
    last = len(stack) if upto is None else check_layer(model, upto)
    found: list[Tensor] = []

    def enter(_module: Any, args: Any, kwargs: Any) -> None:
        model.count(batch, _hidden_input(args, kwargs))

    def leave(_module: Any, _args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        if len(found) == last < len(stack):
            raise _StopForwardError

    swapped = [_swap(model, embeds)] if check_site(site) == "h0" and embeds is not None else []
    hooks = [*swapped, _before_first(model, enter), *(block.register_forward_hook(leave) for block in stack[:last])]
    with _hooks(*hooks), suppress(_StopForwardError):
        found[-1] = model.backbone(batch, None if swapped else embeds).last_hidden_state
    return tuple(found)


@contextmanager
def hidden_states(model: TextModel) -> Iterator[list[Tensor]]:
    """Gives h^1 .. h^L, each (R, L, d_h), of the pass made while the block runs, in its graph.

    For those who need the answer of the same pass as well; :func:`states` runs one of its own.
    """
    found: list[Tensor] = []

    def ask(_module: Any, args: Any, kwargs: Any) -> Any:
        return args, kwargs | {"output_hidden_states": True}

    def keep(_module: Any, _args: Any, output: Any) -> None:
        found.extend(output.hidden_states[1:])

    base = model.network.base_model
    with _hooks(base.register_forward_pre_hook(ask, with_kwargs=True), base.register_forward_hook(keep)):
        yield found


def blocks(model: TextModel) -> Sequence[nn.Module]:
    """Returns the blocks of a model, first to last.

    Raises:
        UserError: If its architecture is not known.
    """
    for path in _BLOCKS:
        try:
            found: Sequence[nn.Module] = attrgetter(path)(model.network.base_model)
        except AttributeError:
            continue
        return found
    raise UserError(
        f"model {model.name!r} ({type(model.network).__name__}) keeps its blocks in none of: {', '.join(_BLOCKS)}; "
        "hidden states need an architecture such as BERT, GPT-2 or OPT"
    )


def _hidden_input(args: Any, kwargs: Any) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def _before_first(model: TextModel, hook: Any) -> Any:
    return blocks(model)[0].register_forward_pre_hook(hook, with_kwargs=True)


def _swap(model: TextModel, embeds: Tensor) -> Any:
    """Hooks the first block: it gets ``embeds`` instead of what the embedding module made of the ids."""

    def swap(_module: Any, args: Any, kwargs: Any) -> Any:
        view = embeds.view_as(embeds)  # hooks that count gradients must not stay behind on the caller's tensor
        return ((view, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": view})

    return _before_first(model, swap)


@contextmanager
def _hooks(*handles: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
