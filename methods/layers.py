"""Which tokens every layer holds on to: the noise methods for all layers at once (methods spec 10).

The representation is h^k, k = 1..L (see ``bench.states``), read in one of three ways:

* ``all``: at every token that can be attributed. The residual stream carries every token's own noise to its own row,
  so maps of low layers are close to uniform, up to the length of the embedding: say so beside every plot of them.
* ``pooled``: at the pooling position only. For k = L this is section 1 with ``readout``.
* ``others``: at every token but the one that is noised: what a token does to the rest. It has no meaning when all
  tokens are noised at once.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Batch
from attrlab.bench.model import TextModel
from attrlab.methods.co_perturbation import CoPerturbation
from attrlab.methods.noise import (
    View,
    clean,
    in_blocks,
    layer_views,
    natural_scale,
    natural_spread,
    representation,
)
from attrlab.methods.tolerance import Problem
from attrlab.methods.word_perturbation import check_noise, one_token_at_a_time, paired_noise

MODES = ("all", "pooled", "others")
"""Where a layer's states are read."""


class LayerMaps(NamedTuple):
    """One score per layer and token.

    Attributes:
        scores: (L, B, n) float64, layer 1 first; positions that cannot be attributed are to be ignored.
        stats: Per layer, per example, diagnostics.
    """

    scores: Tensor
    stats: tuple[list[dict[str, float]], ...]


def layer_interest(
    model: TextModel,
    batch: Batch,
    rngs: Sequence[np.random.Generator],
    method: CoPerturbation,
    mode: str = "all",
) -> LayerMaps:
    """Returns the scores of adaptive co-perturbation for every layer (unsigned; higher: less noise is tolerated).

    Every layer gets the same draws, so that maps can be compared. The clean states of all layers come from one forward
    pass; the passes of layer k end after block k, and count in full: ``L * steps * draws + 1`` forward passes and
    ``L * steps * draws`` backward passes at most. In mode ``all`` low layers are close to uniform (see above).

    Args:
        model: The model.
        batch: B examples.
        rngs: One generator per example; left as they were.
        method: The method, the same for every layer; its own ``phi`` is not used.
        mode: ``all`` or ``pooled``.

    Raises:
        ValueError: If ``mode`` is neither of them.
    """
    check_mode(mode, MODES[:2])
    with torch.no_grad():
        embeds = clean(model, batch, method.site)
        references = [view.entries() for view in _views_of_all(model, batch, embeds, mode, method.site)]
    log_cap = (method.cap * natural_scale(model, method.site, embeds, batch.scorable)).log()
    maps = []
    for layer, reference in enumerate(references, 1):
        name = _phi(layer, mode)
        spread, calibrated = natural_spread(model, name, reference)
        problem = Problem(
            phi=representation(model, batch, name, method.site),
            embeds=embeds,
            scorable=batch.scorable,
            reference=reference,
            spread=spread,
            log_cap=log_cap,
        )
        maps.append(method.solve(problem, deepcopy(list(rngs)), calibrated))
    return LayerMaps(torch.stack([found.scores for found in maps]), tuple(list(found.stats) for found in maps))


def layer_word_damage(
    model: TextModel,
    batch: Batch,
    rngs: Sequence[np.random.Generator],
    *,
    mode: str = "all",
    draws: int = 16,
    scale: float = 3.0,
    site: str = "words",
) -> LayerMaps:
    """Returns the mean squared change of every layer under noise at one token alone (unsigned; methods spec 2).

    It is in units of the layer's natural spread. One forward pass serves all layers, without approximation: at
    ``draws * t + 1`` forward passes for t tokens it costs what one layer costs.

    Args:
        model: The model.
        batch: B examples.
        rngs: One generator per example; left as they were.
        mode: One of ``MODES``; ``others`` gives 0 to the only token of an example.
        draws: Noise draws, in pairs of opposite sign, the same for every token.
        scale: Standard deviation of the noise, in units of the site.
        site: Where the noise enters: ``words`` or ``h0``.

    Raises:
        ValueError: If a name is unknown, ``draws`` is not even and positive, or ``scale`` is not positive.
    """
    check_mode(mode, MODES)
    check_noise(draws, scale)
    with torch.no_grad():
        embeds = clean(model, batch, site)
        references = _views_of_all(model, batch, embeds, mode, site)
        unit = scale * natural_scale(model, site, embeds, batch.scorable)
        noise = unit.to(embeds)[:, None, None] * paired_noise(embeds, draws, deepcopy(list(rngs)))
        damage = torch.zeros(len(references), *batch.scorable.shape, dtype=torch.float64, device=embeds.device)
        for rows, tokens, noised in one_token_at_a_time(embeds, batch.scorable, noise):
            noisy = _Noised(noised, rows.repeat_interleave(draws), tokens.repeat_interleave(draws))
            found = _changes(model, batch, noisy, references, mode, site)
            damage[:, rows, tokens] = found.view(len(references), len(rows), draws).mean(2)
        spreads = [natural_spread(model, _phi(k, mode), view.entries()) for k, view in enumerate(references, 1)]
    stats = [[{"uncalibrated": float(not calibrated)} for _ in range(len(batch))] for _, calibrated in spreads]
    return LayerMaps(damage / torch.stack([spread for spread, _ in spreads])[..., None], tuple(stats))


def check_mode(mode: str, allowed: Sequence[str]) -> None:
    """Refuses a mode that is not allowed.

    Raises:
        ValueError: If ``mode`` is not in ``allowed``.
    """
    if mode not in allowed:
        raise ValueError(f"mode={mode!r}; allowed: {', '.join(allowed)}")


def normalised(scores: Tensor, scorable: Tensor) -> Tensor:
    """Returns each token's share of its map, rho_j / sum of rho, in [0, 1]; 0 where nothing is attributed.

    Args:
        scores: (..., B, n) ln(rho); of damages and squared norms, take the logarithm first.
        scorable: (B, n) tokens that can be attributed.
    """
    return scores.masked_fill(~scorable, -torch.inf).softmax(-1).masked_fill(~scorable, 0.0)


class _Noised(NamedTuple):
    """Noised inputs (R, n, d), the example of each (R,), and the token that is noised (R,)."""

    embeds: Tensor
    rows: Tensor
    tokens: Tensor


def _phi(layer: int, mode: str) -> str:
    return f"hidden:{layer}:pooled" if mode == "pooled" else f"hidden:{layer}"


def _views_of_all(model: TextModel, batch: Batch, embeds: Tensor, mode: str, site: str) -> list[View]:
    """Returns the clean states of every layer, from one forward pass of each example."""

    def run(part: Batch, at: Tensor) -> tuple[Tensor, ...]:
        views = layer_views(model, part, embeds[at], mode, site)
        return (*(view.values for view in views), *(view.marks for view in views))

    found = in_blocks(batch, torch.arange(len(batch), device=embeds.device), run)
    depth = len(found) // 2
    return [View(*pair) for pair in zip(found[:depth], found[depth:], strict=True)]


def _changes(
    model: TextModel, batch: Batch, noised: _Noised, references: Sequence[View], mode: str, site: str
) -> Tensor:
    """Returns the mean squared change of every layer (L, R), float64."""
    slots = torch.arange(batch.ids.shape[1], device=noised.rows.device)

    def run(part: Batch, at: Tensor) -> tuple[Tensor, ...]:
        views = layer_views(model, part, noised.embeds[at], mode, site)
        elsewhere = slots != noised.tokens[at, None] if mode == "others" else torch.ones_like(views[0].marks)
        return tuple(
            View(view.values - reference.values[noised.rows[at]], view.marks & elsewhere)
            .entries()
            .double()
            .square()
            .sum(1)
            for view, reference in zip(views, references, strict=True)
        )

    return torch.stack(in_blocks(batch, noised.rows, run))
