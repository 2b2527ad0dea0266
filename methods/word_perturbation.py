"""Word-by-word perturbation: how much noise at one token alone changes the representation (methods spec 2)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.model import Batch, Explained, Targets, TextModel
from attrlab.methods.noise import Phi, check_phi, natural_spread, representation


def damage_per_token(phi: Phi, embeds: Tensor, scorable: Tensor, reference: Tensor, noise: Tensor) -> Tensor:
    """Returns the mean squared change of the representation when one token at a time is noised, (B, L), float64.

    Args:
        phi: The representation.
        embeds: (B, L, d) clean word embeddings.
        scorable: (B, L) tokens to noise; the others get 0.
        reference: (B, D) representation of the clean embeddings.
        noise: (B, K, d), the same for every token of an example.
    """
    damage = torch.zeros(scorable.shape, dtype=torch.float64, device=embeds.device)
    counts = scorable.sum(1)
    order = scorable.int().argsort(dim=1, descending=True, stable=True)
    draws = noise.shape[1]
    for index in range(int(counts.max())):
        rows = (counts > index).nonzero()[:, 0]
        tokens = order[rows, index]
        noised = embeds[rows, None].repeat(1, draws, 1, 1)
        noised[torch.arange(len(rows), device=rows.device), :, tokens] += noise[rows]
        change = phi(noised.flatten(0, 1), rows.repeat_interleave(draws)).view(len(rows), draws, -1)
        damage[rows, tokens] = (change - reference[rows, None]).double().square().mean((1, 2))
    return damage


class WordPerturbation:
    """Attributes by the change of the representation under noise at one token alone (methods spec 2; unsigned).

    Args:
        draws: Noise draws, in pairs of opposite sign, the same for every token.
        scale: Standard deviation of the noise, in those of the entries of the word-embedding matrix.
        phi: Representation: ``readout`` (hidden state at the pooling position), ``logits`` or ``probs``.

    Raises:
        ValueError: If ``draws`` is not even and positive, ``scale`` is not positive, or ``phi`` is unknown.
    """

    aggregate = "edge"

    def __init__(self, *, draws: int = 16, scale: float = 3.0, phi: str = "readout") -> None:
        if draws < 2 or draws % 2:
            raise ValueError(f"draws={draws}; must be even and at least 2: every draw is used with both signs")
        if scale <= 0:
            raise ValueError(f"scale={scale}; must be positive")
        self.draws = draws
        self.scale = scale
        self.phi = check_phi(phi)

    @property
    def rows(self) -> int:
        """Rows per example in one forward pass."""
        return self.draws

    @torch.no_grad()
    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the mean squared change in units of its natural spread, (B, L); ``targets`` play no part."""
        phi = representation(model, batch, self.phi)
        embeds = model.embed(batch)
        reference = phi(embeds, torch.arange(len(batch), device=embeds.device))
        spread, calibrated = natural_spread(model, self.phi, reference)
        shape = (self.draws // 2, embeds.shape[-1])
        half = torch.from_numpy(np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs]))
        noise = self.scale * model.embedding.std() * half.to(embeds)
        damage = damage_per_token(phi, embeds, batch.scorable, reference, torch.cat([noise, -noise], dim=1))
        return Explained(damage / spread[:, None], [{"uncalibrated": float(not calibrated)}] * len(batch))
