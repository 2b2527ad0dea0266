"""Adaptive co-perturbation: the largest noise each token tolerates while all tokens are noised (methods spec 1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.model import Batch, Explained, Targets, TextModel
from attrlab.methods.noise import Phi, check_phi, natural_spread, noise_like, representation

START, RANGE = 5.0, 12.0
"""Log standard deviation below the cap: where it starts, and its lowest value."""

RATE, FINAL_RATE, BETAS, EPS = 0.1, 0.02, (0.9, 0.95), 1e-8
"""Adam: step size, the share of it left by the cosine, decay rates, and guard of the division."""

WINDOW, STILL = 25, 0.05
"""Steps per window of the stopping rule, and the change of a window's mean that counts as standing still."""

TAIL = 0.75
"""The estimate is the mean over the steps after this share of them."""

CAPPED = 0.98
"""Share of the cap from which a token counts as tied at the bottom."""

NOISE_BYTES = 1 << 26
"""Memory for noise drawn ahead."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """B independent optimisations, one per example.

    Attributes:
        phi: The representation.
        embeds: (B, L, d) clean word embeddings.
        scorable: (B, L) tokens that get noise.
        reference: (B, D) representation of the clean embeddings.
        spread: (B,) R, the unit of squared change.
        log_cap: Largest log standard deviation.
    """

    phi: Phi
    embeds: Tensor
    scorable: Tensor
    reference: Tensor
    spread: Tensor
    log_cap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Weight of the entropy, noise draws per step (even), and largest number of steps."""

    lam: float
    draws: int
    steps: int


class Solution(NamedTuple):
    """What the optimisation found.

    Attributes:
        u: (B, L) log standard deviation of the tolerated noise, float64.
        slope: (B, L) tail mean of dM/du, float64.
        damage: (B,) tail mean of M, float64.
        steps: (B,) steps taken.
    """

    u: Tensor
    slope: Tensor
    damage: Tensor
    steps: Tensor


def deviation(problem: Problem, rows: Tensor, u: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Returns M (R,) and dM/du (R, L), both float64, estimated with every draw in both signs.

    Args:
        problem: The problem.
        rows: (R,) examples of the problem.
        u: (R, L) log standard deviations.
        noise: (P, R, L, d) standard normal, zero where not scorable.
    """
    clean, draws = problem.embeds[rows], 2 * len(noise)
    shift = u.exp().to(clean)[..., None] * noise
    noised = torch.cat([clean + shift, clean - shift]).flatten(0, 1).requires_grad_()
    with torch.enable_grad():
        change = problem.phi(noised, rows.repeat(draws)) - problem.reference[rows].repeat(draws, 1)
        damage = change.square().mean(1)
        (gradient,) = torch.autograd.grad(damage.sum(), noised)
    plus, minus = gradient.view(2, *shift.shape)
    unit = problem.spread[rows] * draws
    slope = ((plus - minus) * shift).sum(-1).double().sum(0)
    return damage.detach().double().view(draws, -1).sum(0) / unit, slope / unit[:, None]


def optimise(problem: Problem, settings: Settings, rngs: Sequence[np.random.Generator]) -> Solution:
    """Returns the noise each token tolerates: argmin over u of M(u) - lam * mean(u), per example (spec 1.1).

    Starts from little noise, descends by Adam with a cosine schedule, and averages the tail of the path. An example
    that stands still for two windows stops and leaves the batch at once, so its cost does not depend on company.
    """
    examples, length = problem.scorable.shape
    device = problem.embeds.device
    path = torch.full(
        (settings.steps + 1, examples, length), problem.log_cap - START, dtype=torch.float64, device=device
    )
    slopes = torch.zeros_like(path)
    damages = torch.zeros_like(path[..., 0])
    moments = torch.zeros(2, examples, length, dtype=torch.float64, device=device)
    steps = torch.full((examples,), settings.steps, device=device)
    active = torch.arange(examples, device=device)
    for start in range(0, settings.steps, WINDOW):
        stop = min(start + WINDOW, settings.steps)
        chosen = [rngs[row] for row in active.tolist()]
        _descend(problem, settings, chosen, active, (start, stop), (path, slopes, damages, moments))
        if stop >= 3 * WINDOW and stop - start == WINDOW:
            still = _still(path[stop - 3 * WINDOW + 1 : stop + 1, active])
            steps[active[still]] = stop
            active = active[~still]
        if len(active) == 0:
            break
    return Solution(
        u=_tail_mean(path[1:], steps),
        slope=_tail_mean(slopes[1:], steps),
        damage=_tail_mean(damages[1:, :, None], steps)[:, 0],
        steps=steps,
    )


def _tail_mean(values: Tensor, steps: Tensor) -> Tensor:
    """Returns the mean of (T, B, L) over the last quarter of each example's own steps (B,), (B, L)."""
    times = torch.arange(1, len(values) + 1, device=steps.device)[:, None]
    tail = ((times > TAIL * steps) & (times <= steps)).double()
    # A sum's order of addition depends on the shape of the whole tensor, that of a running sum does not.
    return (values * (tail / tail.sum(0))[..., None]).cumsum(0)[-1]


def _descend(
    problem: Problem,
    settings: Settings,
    rngs: Sequence[np.random.Generator],
    active: Tensor,
    span: tuple[int, int],
    record: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """Takes the steps of one window for the active examples and writes them into the record."""
    path, slopes, damages, moments = record
    scorable, embeds = problem.scorable[active], problem.embeds[active]
    pairs = settings.draws // 2
    ahead = max(1, min(WINDOW, NOISE_BYTES // max(1, pairs * embeds.numel() * 4)))
    pull = settings.lam * scorable.double() / scorable.sum(1, keepdim=True, dtype=torch.float64).clamp(min=1)
    u, (first, second) = path[span[0], active], moments[:, active]
    noise = embeds.new_empty(0)
    for step in range(*span):
        index = (step - span[0]) % ahead
        if index == 0:
            noise = noise_like(scorable, embeds, (min(ahead, span[1] - step), pairs), rngs)
        damage, slope = deviation(problem, active, u, noise[index])
        gradient = slope - pull
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient.square()
        unbiased = first / (1 - BETAS[0] ** (step + 1))
        size = (second / (1 - BETAS[1] ** (step + 1))).sqrt() + EPS
        cosine = (1 + math.cos(math.pi * step / settings.steps)) / 2
        u = u - RATE * (FINAL_RATE + (1 - FINAL_RATE) * cosine) * unbiased / size
        u = u.clamp(problem.log_cap - RANGE, problem.log_cap)
        path[step + 1, active], slopes[step + 1, active], damages[step + 1, active] = u, slope, damage
    moments[:, active] = torch.stack([first, second])


def _still(path: Tensor) -> Tensor:
    """Whether the means of three successive windows, (3 * WINDOW, R, L), differ little twice in a row, (R,)."""
    means = path.view(3, WINDOW, *path.shape[1:]).mean(1)
    return (means.diff(dim=0).abs().flatten(2).amax(-1) < STILL).all(0)


def attribution(problem: Problem, solution: Solution, lam: float) -> Tensor:
    """Returns ln(1/s^2) per token (B, L), float64; tokens tied at the cap are ordered by their slope (spec 1.1.6)."""
    tokens = problem.scorable.sum(1, keepdim=True, dtype=torch.float64)
    order = 1e-3 * tokens / lam * solution.slope
    return -2 * solution.u + order * _capped(problem, solution)


def diagnostics(problem: Problem, solution: Solution) -> list[dict[str, float]]:
    """Returns per example what tells a good optimisation from a collapsed one (spec 1.3)."""
    tokens = problem.scorable.sum(1).clamp(min=1)
    share = _capped(problem, solution).sum(1) / tokens
    columns = {
        "M": solution.damage,
        "entropy": (solution.u * problem.scorable).sum(1) / tokens,
        "capped": share,
        "steps": solution.steps,
        "collapsed": (solution.damage > 0.5) | (share > 0.9),
    }
    values = {name: column.tolist() for name, column in columns.items()}
    return [{name: float(column[row]) for name, column in values.items()} for row in range(len(tokens))]


def _capped(problem: Problem, solution: Solution) -> Tensor:
    return (solution.u >= problem.log_cap + math.log(CAPPED)) & problem.scorable


class CoPerturbation:
    """Attributes by the noise every token tolerates while all are noised at once (methods spec 1; unsigned).

    Higher means that less noise is tolerated. It explains the representation, not a class. Cheaper and dearer
    presets: ``steps=100,draws=2`` and ``steps=400,draws=8``.

    Args:
        lam: Weight of the entropy against the change of the representation; collapses from about 1.
        draws: Noise draws per step, in pairs of opposite sign.
        steps: Largest number of optimisation steps.
        cap: Largest standard deviation, in those of the entries of the word-embedding matrix.
        phi: Representation: ``readout`` (hidden state at the pooling position), ``logits`` or ``probs``.

    Raises:
        ValueError: If a value is not positive, ``draws`` is odd, or ``phi`` is unknown.
    """

    aggregate = "edge"

    def __init__(
        self, *, lam: float = 0.1, draws: int = 4, steps: int = 200, cap: float = 10.0, phi: str = "readout"
    ) -> None:
        if lam <= 0 or cap <= 0 or steps < 1:
            raise ValueError(f"lam={lam}, cap={cap}, steps={steps}; all must be positive")
        if draws < 2 or draws % 2:
            raise ValueError(f"draws={draws}; must be even and at least 2: every draw is used with both signs")
        self.settings = Settings(lam=lam, draws=draws, steps=steps)
        self.cap = cap
        self.phi = check_phi(phi)

    @property
    def rows(self) -> int:
        """Rows per example in one forward pass."""
        return self.settings.draws

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns ln(rho) per token, (B, L), and the diagnostics of the optimisation; ``targets`` play no part."""
        phi = representation(model, batch, self.phi)
        with torch.no_grad():
            embeds = model.embed(batch)
            reference = phi(embeds, torch.arange(len(batch), device=embeds.device))
            log_cap = math.log(self.cap * float(model.embedding.double().std()))
        spread, calibrated = natural_spread(model, self.phi, reference)
        problem = Problem(
            phi=phi, embeds=embeds, scorable=batch.scorable, reference=reference, spread=spread, log_cap=log_cap
        )
        solution = optimise(problem, self.settings, rngs)
        stats = [row | {"uncalibrated": float(not calibrated)} for row in diagnostics(problem, solution)]
        return Explained(attribution(problem, solution, self.settings.lam), stats)
