"""Word-by-word perturbation: how much noise at one token alone changes the representation (methods spec 2)."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.model import TextModel
from attrlab.bench.states import check_site
from attrlab.methods.noise import Phi, check_phi, clean, natural_scale, natural_spread, representation


def one_token_at_a_time(embeds: Tensor, scorable: Tensor, noise: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields the examples (R,), the token (R,) of each that is noised, and what enters then, (R * K, L, d).

    Args:
        embeds: (B, L, d) clean input of the site.
        scorable: (B, L) tokens to noise.
        noise: (B, K, d), the same for every token of an example.
    """
    counts = scorable.sum(1)
    order = scorable.int().argsort(dim=1, descending=True, stable=True)
    for index in range(int(counts.max())):
        rows = (counts > index).nonzero()[:, 0]
        tokens = order[rows, index]
        noised = embeds[rows, None].repeat(1, noise.shape[1], 1, 1)
        noised[torch.arange(len(rows), device=rows.device), :, tokens] += noise[rows]
        yield rows, tokens, noised.flatten(0, 1)


def damage_per_token(phi: Phi, embeds: Tensor, scorable: Tensor, reference: Tensor, noise: Tensor) -> Tensor:
    """Returns the mean squared change of the representation when one token at a time is noised, (B, L), float64.

    Args:
        phi: The representation, scaled by D^-1/2.
        embeds: (B, L, d) clean input of the site.
        scorable: (B, L) tokens to noise; the others get 0.
        reference: (B, D) representation of the clean input.
        noise: (B, K, d), the same for every token of an example.
    """
    damage = torch.zeros(scorable.shape, dtype=torch.float64, device=embeds.device)
    draws = noise.shape[1]
    for rows, tokens, noised in one_token_at_a_time(embeds, scorable, noise):
        change = phi(noised, rows.repeat_interleave(draws)).view(len(rows), draws, -1) - reference[rows, None]
        damage[rows, tokens] = change.double().square().sum(2).mean(1)
    return damage


def paired_noise(embeds: Tensor, draws: int, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Returns standard normal noise for one token, (B, draws, d): the second half is the first with its sign changed.

    Args:
        embeds: (B, L, d), for the width, data type and device.
        draws: Even number of draws.
        rngs: One generator per example.
    """
    shape = (draws // 2, embeds.shape[-1])
    half = torch.from_numpy(np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs])).to(embeds)
    return torch.cat([half, -half], dim=1)


def check_noise(draws: int, scale: float) -> None:
    """Refuses an impossible amount of noise.

    Raises:
        ValueError: If ``draws`` is not even and positive, or ``scale`` is not positive.
    """
    if draws < 2 or draws % 2:
        raise ValueError(f"draws={draws}; must be even and at least 2: every draw is used with both signs")
    if scale <= 0:
        raise ValueError(f"scale={scale}; must be positive")


class WordPerturbation:
    """Attributes by the change of the representation under noise at one token alone (methods spec 2; unsigned).

    Args:
        draws: Noise draws, in pairs of opposite sign, the same for every token.
        scale: Standard deviation of the noise, in units of the site (see ``noise.natural_scale``).
        phi: Representation: ``readout`` (hidden state at the pooling position), ``logits``, ``probs``, ``hidden:K``
            (state after block K of all tokens that can be attributed), ``hidden:K:pooled`` or ``lm`` (states that
            predict the next tokens).
        site: Where the noise enters: ``words`` (word embeddings) or ``h0`` (input of the first block).

    Raises:
        ValueError: If ``draws`` is not even and positive, ``scale`` is not positive, or a name is unknown.
    """

    aggregate = "edge"

    def __init__(self, *, draws: int = 16, scale: float = 3.0, phi: str = "readout", site: str = "words") -> None:
        check_noise(draws, scale)
        self.draws = draws
        self.scale = scale
        self.phi = check_phi(phi)
        self.site = check_site(site)

    @property
    def rows(self) -> int:
        """Rows per example in one forward pass."""
        return self.draws

    @torch.no_grad()
    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the mean squared change in units of its natural spread, (B, L); ``targets`` play no part.

        Raises:
            UserError: If the model does not have the representation.
        """
        phi = representation(model, batch, self.phi, self.site)
        embeds = clean(model, batch, self.site)
        reference = phi(embeds, torch.arange(len(batch), device=embeds.device))
        spread, calibrated = natural_spread(model, self.phi, reference)
        unit = self.scale * natural_scale(model, self.site, embeds, batch.scorable)
        noise = unit.to(embeds)[:, None, None] * paired_noise(embeds, self.draws, rngs)
        damage = damage_per_token(phi, embeds, batch.scorable, reference, noise)
        return Explained(damage / spread[:, None], [{"uncalibrated": float(not calibrated)}] * len(batch))
