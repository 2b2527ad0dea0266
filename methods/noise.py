"""What the two noise methods share: the representation that must not change, its natural spread, and the draws."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.model import Batch, Output, Row, TextModel
from attrlab.bench.types import Encoded

Phi = Callable[[Tensor, Tensor], Tensor]
"""Maps word embeddings (R, L, d) of the given rows (R,) of a batch to representations (R, D)."""

_PHI: dict[str, Callable[[Output], Tensor]] = {
    "readout": lambda output: output.readout,
    "logits": lambda output: output.logits,
    "probs": lambda output: output.logits.softmax(1),
}
PHIS = tuple(_PHI)
"""Representations of a text: hidden state at the pooling position, class logits, class probabilities."""

FLOOR = 1e-8
"""Smallest spread that is divided by."""

CALIBRATION_ROWS = 32
"""Rows of one forward pass over the calibration set."""

CPU_TOKENS, DEVICE_TOKENS = 256, 1024
"""Padded tokens of one forward pass of a representation, on the processor and elsewhere."""

NOBODY = -1
"""Owner of rows that no example asked for: the meter leaves them out."""

_spreads: WeakKeyDictionary[TextModel, dict[str, tuple[Sequence[Encoded], float]]] = WeakKeyDictionary()


def check_phi(phi: str) -> str:
    """Returns ``phi``.

    Raises:
        ValueError: If it is not one of ``PHIS``.
    """
    if phi not in _PHI:
        raise ValueError(f"phi={phi!r}; allowed: {', '.join(PHIS)}")
    return phi


def representation(model: TextModel, batch: Batch, phi: str) -> Phi:
    """Returns the differentiable map from embeddings of rows of ``batch`` to representations.

    Every forward pass has the same number of rows, filled up with copies, because a matrix product's last bits depend
    on its shape: a row's representation is then the same bit for bit in any company of its padded length. It has to
    be: over hundreds of steps on a trained model a difference of 1e-7 grows to 1e-2. Copies are not counted.
    """
    read = _PHI[phi]
    tokens = CPU_TOKENS if batch.ids.device.type == "cpu" else DEVICE_TOKENS
    size = max(1, tokens // batch.ids.shape[1])

    def block(embeds: Tensor, rows: Tensor) -> Tensor:
        fill = torch.arange(size, device=rows.device) % len(rows)
        taken = batch.take(rows[fill])
        copies = torch.arange(size, device=rows.device) >= len(rows)
        counted = replace(taken, owners=taken.owners.masked_fill(copies, NOBODY))
        return read(model.forward(counted, embeds[fill]))[: len(rows)]

    return lambda embeds, rows: torch.cat(
        [block(embeds[start : start + size], rows[start : start + size]) for start in range(0, len(rows), size)]
    )


def natural_spread(model: TextModel, phi: str, reference: Tensor) -> tuple[Tensor, bool]:
    """Returns R, the unit in which changes of the representation are measured, and whether it is calibrated.

    R is the variance of a dimension over the model's calibration set, averaged over dimensions (methods spec 1.1);
    without a calibration set it is the mean square of the example's own representation. It is computed once per
    model object and representation, and costs no example anything.

    Args:
        model: The model; its ``calibration`` may be empty.
        phi: One of ``PHIS``.
        reference: (B, D) representations of the examples.

    Returns:
        (B,) float64, at least ``FLOOR``; and True if it comes from a calibration set.
    """
    if len(model.calibration) == 0:
        return reference.double().square().mean(1).clamp(min=FLOOR), False
    known = _spreads.setdefault(model, {})
    if phi not in known or known[phi][0] is not model.calibration:
        known[phi] = model.calibration, _variance(model, phi)
    return torch.full((len(reference),), max(known[phi][1], FLOOR), dtype=torch.float64, device=reference.device), True


@torch.no_grad()
def _variance(model: TextModel, phi: str) -> float:
    chunks = []
    for start in range(0, len(model.calibration), CALIBRATION_ROWS):
        encoded = model.calibration[start : start + CALIBRATION_ROWS]
        rows = [Row(one.ids, one.segments, np.ones(len(one.ids), dtype=bool)) for one in encoded]
        batch = model.collate(rows, [one.units >= 0 for one in encoded])
        batch = replace(batch, owners=torch.full_like(batch.owners, NOBODY))
        chunks.append(_PHI[phi](model.forward(batch)).double())
    return float(torch.cat(chunks).var(0, correction=0).mean())


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
