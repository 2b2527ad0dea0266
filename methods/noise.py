"""What the noise methods share: the representation that must not change, its natural spread, and the draws."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import NOBODY, Batch, Output
from attrlab.bench.inputs import Encoded
from attrlab.bench.language import predicting
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.states import check_layer, check_site, embed, forward, states

Phi = Callable[[Tensor, Tensor], Tensor]
"""Maps what enters at the noise site (R, L, d), for the given rows (R,) of a batch, to representations (R, D)."""

_OUTPUTS: dict[str, Callable[[Output], Tensor]] = {
    "readout": lambda output: output.readout,
    "logits": lambda output: output.logits,
    "probs": lambda output: output.logits.softmax(1),
}
PHIS = tuple(_OUTPUTS)
"""Representations of one vector: hidden state at the pooling position, class logits, class probabilities."""

_HIDDEN = re.compile(r"hidden:(?P<layer>[1-9]\d*)(?P<pooled>:pooled)?")

FLOOR = 1e-8
"""Smallest spread that is divided by."""

CALIBRATION_ROWS = 32
"""Rows of one forward pass over the calibration set."""

CPU_TOKENS, DEVICE_TOKENS = 256, 1024
"""Padded tokens of one forward pass of a representation, on the processor and elsewhere."""

_measured: WeakKeyDictionary[TextModel, dict[str, tuple[Sequence[Encoded], float]]] = WeakKeyDictionary()


class View(NamedTuple):
    """What a representation is made of: vectors (R, P, d), and which of them count (R, P)."""

    values: Tensor
    marks: Tensor

    def entries(self) -> Tensor:
        """Returns the vectors that count, end to end, the others zero: (R, P * d), times D^-1/2.

        D is the number of entries that count in a row, so that the squared length is the mean squared entry.
        """
        size = (self.marks.sum(1).clamp(min=1) * self.values.shape[-1]).double().rsqrt().to(self.values)
        return (self.values.masked_fill(~self.marks[..., None], 0) * size[:, None, None]).flatten(1)


def check_phi(phi: str) -> str:
    """Returns ``phi``.

    Raises:
        ValueError: If it is not one of ``PHIS``, ``lm``, ``hidden:K`` or ``hidden:K:pooled``.
    """
    if phi not in (*PHIS, "lm") and not _HIDDEN.fullmatch(phi):
        raise ValueError(f"phi={phi!r}; allowed: {', '.join(PHIS)}, lm, hidden:K, hidden:K:pooled (K = 1, 2, ...)")
    return phi


def representation(model: TextModel, batch: Batch, phi: str, site: str = "words") -> Phi:
    """Returns the differentiable map from what enters at a site, for rows of ``batch``, to representations.

    A representation is scaled by D^-1/2, D its number of entries: the squared length is the mean squared entry.

    Args:
        model: The model.
        batch: The examples.
        phi: ``readout``, ``logits``, ``probs``; ``hidden:K`` (h^K at all tokens that can be attributed),
            ``hidden:K:pooled`` (h^K at the pooling position); ``lm`` (last state where next tokens are predicted).
        site: ``words`` or ``h0``.

    Raises:
        ValueError: If ``phi`` or ``site`` is unknown.
        UserError: If the model has no layer K, or is an encoder and ``phi`` is ``lm``.
    """
    check_site(site)
    if match := _HIDDEN.fullmatch(check_phi(phi)):
        check_layer(model, int(match["layer"]))
    elif phi == "lm":
        predicting(model, batch)

    def mapped(embeds: Tensor, rows: Tensor) -> Tensor:
        return in_blocks(batch, rows, lambda part, at: (_view(model, part, embeds[at], phi, site).entries(),))[0]

    return mapped


def in_blocks(batch: Batch, rows: Tensor, run: Callable[[Batch, Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Returns what ``run`` makes of the rows of a batch, block by block; every part has a first dimension of rows.

    Every block has the same number of rows, filled up with copies, because a matrix product's last bits depend on its
    shape: a row's result is then the same bit for bit in any company of its padded length. It has to be: over
    hundreds of steps on a trained model a difference of 1e-7 grows to 1e-2. Copies are not counted.

    Args:
        batch: The examples.
        rows: (R,) indices into the batch, with repetition.
        run: Is given a block and the positions in ``rows`` it was made of.
    """
    tokens = CPU_TOKENS if batch.ids.device.type == "cpu" else DEVICE_TOKENS
    size = max(1, tokens // batch.ids.shape[1])
    slots = torch.arange(size, device=rows.device)
    parts = []
    for start in range(0, len(rows), size):
        count = min(size, len(rows) - start)
        at = start + slots % count
        taken = batch.take(rows[at])
        counted = replace(taken, owners=taken.owners.masked_fill(slots >= count, NOBODY))
        parts.append([part[:count] for part in run(counted, at)])
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def clean(model: TextModel, batch: Batch, site: str = "words") -> Tensor:
    """Returns what enters at a site without noise, (B, L, d), the same bit for bit in any company."""
    if site == "words":
        return model.embed(batch)
    rows = torch.arange(len(batch), device=batch.ids.device)
    return in_blocks(batch, rows, lambda part, _at: (embed(model, part, site),))[0]


def layer_views(model: TextModel, batch: Batch, embeds: Tensor, mode: str, site: str = "words") -> tuple[View, ...]:
    """Returns ``hidden:K`` (mode ``all``) or ``hidden:K:pooled`` (mode ``pooled``) of all layers, from one pass."""
    return tuple(_at(model, batch, state, mode == "pooled") for state in states(model, batch, embeds, site=site))


def _view(model: TextModel, batch: Batch, embeds: Tensor | None, phi: str, site: str) -> View:
    if match := _HIDDEN.fullmatch(phi):
        state = states(model, batch, embeds, site=site, upto=int(match["layer"]))[-1]
        return _at(model, batch, state, match["pooled"] is not None)
    if phi == "lm":
        return View(states(model, batch, embeds, site=site)[-1], predicting(model, batch))
    return _alone(_OUTPUTS[phi](forward(model, batch, embeds, site=site)))


def _at(model: TextModel, batch: Batch, state: Tensor, pooled: bool) -> View:
    if not pooled:
        return View(state, batch.scorable)
    return _alone(state[torch.arange(len(batch), device=state.device), model.pool(batch)])


def _alone(values: Tensor) -> View:
    return View(values[:, None], torch.ones(len(values), 1, dtype=torch.bool, device=values.device))


def natural_spread(model: TextModel, phi: str, reference: Tensor) -> tuple[Tensor, bool]:
    """Returns R, the unit in which changes of the representation are measured, and whether it is calibrated.

    R is the variance of a dimension over the model's calibration set (for ``hidden:K`` and ``lm`` over all positions
    of its texts that count), averaged over dimensions (methods spec 1.1); without a calibration set it is the mean
    square of the example's own representation. It is computed once per model object and representation, for all
    layers together, and costs no example anything.

    Args:
        model: The model; its ``calibration`` may be empty.
        phi: The representation.
        reference: (B, D) representations of the examples, scaled by D^-1/2.

    Returns:
        (B,) float64, at least ``FLOOR``; and True if it comes from a calibration set.
    """
    if len(model.calibration) == 0:
        return reference.double().square().sum(1).clamp(min=FLOOR), False
    spread = max(_calibrated(model, phi), FLOOR)
    return torch.full((len(reference),), spread, dtype=torch.float64, device=reference.device), True


def natural_scale(model: TextModel, site: str, embeds: Tensor, scorable: Tensor) -> Tensor:
    """Returns the unit of the noise at a site, (B,) float64: a standard deviation of entries (methods spec A10).

    ``words``: of the word-embedding matrix. ``h0``: of the tokens of the calibration set that can be attributed;
    without one, of those of the example itself. It costs no example anything.

    Args:
        model: The model; its ``calibration`` may be empty.
        site: ``words`` or ``h0``.
        embeds: (B, L, d) what enters at the site.
        scorable: (B, L) tokens that can be attributed.
    """
    if check_site(site) == "words":
        scale = float(model.embedding.detach().double().std())
    elif len(model.calibration):
        scale = _calibrated(model, "h0") ** 0.5
    else:
        own = [row[marks].double() for row, marks in zip(embeds, scorable, strict=True)]
        stds = [float(row.std(correction=0)) if row.numel() else 0.0 for row in own]
        return torch.tensor(stds, dtype=torch.float64, device=embeds.device).clamp(min=FLOOR)
    return torch.full((len(embeds),), scale, dtype=torch.float64, device=embeds.device)


def _calibrated(model: TextModel, name: str) -> float:
    known = _measured.setdefault(model, {})
    if name not in known or known[name][0] is not model.calibration:
        known.update({key: (model.calibration, value) for key, value in _variances(model, name).items()})
    return known[name][1]


@torch.no_grad()
def _variances(model: TextModel, name: str) -> dict[str, float]:
    """Mean variance of a dimension by representation; for ``h0`` the variance of all entries."""
    moments: dict[str, Moments] = {}
    for batch in _calibration_batches(model):
        for key, view in _views(model, batch, name).items():
            found = view.values[view.marks].double()
            moments[key] = moments.get(key, Moments()).plus(found.flatten()[:, None] if key == "h0" else found)
    return {key: float((total.squares / max(total.count, 1)).mean()) for key, total in moments.items()}


def _views(model: TextModel, batch: Batch, name: str) -> dict[str, View]:
    """Everything worth measuring in the forward pass that ``name`` needs: of one layer, all of them."""
    if name == "h0":
        return {name: View(embed(model, batch, "h0"), batch.scorable)}
    if not _HIDDEN.fullmatch(name):
        return {name: _view(model, batch, None, name, "words")}
    found = list(enumerate(states(model, batch), 1))
    every = {f"hidden:{layer}": _at(model, batch, state, False) for layer, state in found}
    return every | {f"hidden:{layer}:pooled": _at(model, batch, state, True) for layer, state in found}


def _calibration_batches(model: TextModel) -> Iterator[Batch]:
    for start in range(0, len(model.calibration), CALIBRATION_ROWS):
        encoded = model.calibration[start : start + CALIBRATION_ROWS]
        batch = model.collate([whole(one) for one in encoded], [one.units >= 0 for one in encoded])
        yield replace(batch, owners=torch.full_like(batch.owners, NOBODY))


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean (d,) and summed squared distance from it (d,) of vectors seen chunk by chunk.

    Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".
    """

    count: int = 0
    mean: Tensor = field(default_factory=partial(torch.zeros, ()))
    squares: Tensor = field(default_factory=partial(torch.zeros, ()))

    def plus(self, chunk: Tensor) -> "Moments":
        """Returns the moments with the vectors of a chunk (N, d) added."""
        if len(chunk) == 0:
            return self
        count, mean = self.count + len(chunk), chunk.mean(0)
        step = mean - self.mean.to(mean)
        squares = (
            self.squares.to(mean) + (chunk - mean).square().sum(0) + step.square() * (self.count * len(chunk) / count)
        )
        return Moments(count, self.mean.to(mean) + step * (len(chunk) / count), squares)


def noise_like(scorable: Tensor, embeds: Tensor, shape: tuple[int, ...], rngs: Sequence[np.random.Generator]) -> Tensor:
    """Returns standard normal noise at scorable tokens and zeros elsewhere, ``(*shape, R, L, d)``.

    Each row is drawn by its own generator and only for its own tokens, so neither padding nor company changes it,
    and drawing 20 steps equals drawing 10 steps twice.

    Args:
        scorable: (R, L).
        embeds: (R, L, d), for the width, data type and device.
        shape: Leading dimensions.
        rngs: One generator per row.
    """
    width = embeds.shape[-1]
    noise = np.zeros((*shape, *scorable.shape, width), dtype=np.float32)
    for row, (rng, marks) in enumerate(zip(rngs, scorable.cpu().numpy(), strict=True)):
        noise[..., row, marks, :] = rng.standard_normal((*shape, marks.sum(), width), dtype=np.float32)
    return torch.from_numpy(noise).to(embeds)
