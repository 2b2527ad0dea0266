"""How strongly every layer's states depend on every token: norms of the Jacobian by random probes (methods spec 10)."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Batch
from attrlab.bench.model import TextModel
from attrlab.bench.states import states
from attrlab.methods.layers import MODES, check_mode
from attrlab.methods.noise import clean, in_blocks, noise_like


def jacobian_norms(
    model: TextModel,
    batch: Batch,
    rngs: Sequence[np.random.Generator],
    *,
    mode: str = "all",
    probes: int = 8,
    groups: int = 4,
    site: str = "words",
) -> Tensor:
    """Returns estimates of ``||dh^k/de_j||_F^2`` for every layer, (L, B, n) float64, at least 0.

    It is what both noise methods measure when noise is small. Hutchinson's estimator: for random signs v at the rows
    that are read, the squared length of ``(J^T v)_j`` has the mean ``||J_j||_F^2``. Cost: one forward pass, and
    ``probes`` backward passes per layer.

    In mode ``others`` a token's own row must get no probe. Subtracting an estimate of its own block would drown the
    rest, since the residual stream makes that block the largest by far. Instead every probe divides the m tokens at
    random into ``groups`` of equal size, takes one backward pass per group with the probe zero in that group, and uses
    it for the tokens of the group. A token's group of size s hides s - 1 of its m - 1 others, all equally often;
    the factor (m - 1) / (m - s) makes up for it exactly in the mean. Cost: ``groups * probes`` backward passes per
    layer; with as many groups as tokens nothing is hidden.

    Args:
        model: The model.
        batch: B examples.
        rngs: One generator per example; left as they were.
        mode: One of ``MODES``.
        probes: Number of random probes.
        groups: Groups of mode ``others``, at least 2.
        site: Where the derivative is taken: ``words`` or ``h0``.

    Raises:
        ValueError: If a name is unknown, ``probes`` is not positive or ``groups`` less than 2.
    """
    check_mode(mode, MODES)
    if probes < 1 or groups < 2:
        raise ValueError(f"probes={probes}, groups={groups}; at least 1 probe and 2 groups are needed")
    with torch.no_grad():
        embeds = clean(model, batch, site)
    positions = torch.arange(batch.ids.shape[1], device=embeds.device)
    read = positions == model.pool(batch)[:, None] if mode == "pooled" else batch.scorable
    parts = groups if mode == "others" else 1

    def run(part: Batch, at: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            inputs = embeds[at].requires_grad_()
            found = states(model, part, inputs, site=site)
            return tuple(
                _probe(state, inputs, read[at], [deepcopy(rngs[row]) for row in at.tolist()], (probes, parts))
                for state in found
            )

    norms = torch.stack(in_blocks(batch, torch.arange(len(batch), device=embeds.device), run))
    return norms * batch.scorable


def _probe(
    state: Tensor, inputs: Tensor, read: Tensor, rngs: Sequence[np.random.Generator], counts: tuple[int, int]
) -> Tensor:
    """Returns the estimated squared norms of one layer (R, n), float64.

    Args:
        state: (R, n, d_h) with its graph, which is kept.
        inputs: (R, n, d).
        read: (R, n) rows of the state that are read.
        rngs: One generator per row; used up.
        counts: Number of probes, and of groups (1: own rows are not left out).
    """
    probes, groups = counts
    signs = noise_like(read, state, (probes,), rngs).sign()
    total = torch.zeros(read.shape, dtype=torch.float64, device=read.device)
    for sign in signs:
        labels = _groups(read, groups, rngs)
        for group in range(groups):
            members = labels == group if groups > 1 else torch.zeros_like(read)
            (gradient,) = torch.autograd.grad(state, inputs, sign.masked_fill(members[..., None], 0), retain_graph=True)
            squares = gradient.double().square().sum(-1)
            total += squares * _weights(read, members) if groups > 1 else squares
    return total / probes


def _groups(read: Tensor, groups: int, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Divides the tokens of each row at random into groups of equal size, (R, n); -1 where nothing is read."""
    labels = np.full(read.shape, -1)
    for row, (rng, marks) in enumerate(zip(rngs, read.cpu().numpy(), strict=True)):
        labels[row, marks] = rng.permutation(int(marks.sum())) % groups
    return torch.from_numpy(labels).to(read.device)


def _weights(read: Tensor, members: Tensor) -> Tensor:
    """Returns (m - 1) / (m - s) for the members of a group of s of m tokens, 0 for the others, (R, n)."""
    tokens, size = read.sum(1, dtype=torch.float64), members.sum(1)
    return members * ((tokens - 1) / (tokens - size).clamp(min=1))[:, None]
