"""The optimisation behind co-perturbation: the largest noise each token tolerates (methods spec 1.1, 1.3).

Token j gets noise ``s_j * xi_j`` with ``xi_j ~ N(0, I_d)``; the unknowns are ``u_j = ln s_j``. For each example

    J(u) = M(u) - lam * mean_j(u_j),        M(u) = E |phi(e + s xi) - phi(e)|^2 / R

is minimised under ``u_j <= ln s_max``: M is bounded and the entropy is not, so without the cap J has no minimum. At a
minimum ``dM/du_j = lam / m`` below the cap and ``<= lam / m`` at it. While noise is small ``M = sum_j s_j^2 G_j`` with
``G_j`` the squared Jacobian norm of token j in units of R, hence ``s_j^2 = lam / (2 m G_j)``: a gradient norm.

What was kept, and why (measured at equal forwards and backwards by ``tests/perf/ablation.py``):

* Independent draws, few per step, many steps. Pairs of opposite sign save nothing: to leading order M is even in xi, so
  the second of a pair repeats the first.
* Adam from little noise, cosine decay, tail average, a second moment remembered for an eighth of the run. With a short
  memory a heavy-tailed gradient is divided by its own size, and ``E[g / sqrt(v)] = 0`` is not ``E[g] = 0``.
* ``sensitivity``, the mean of ``ln |dM/de_j|`` over all draws of the whole path, at no cost. Most tokens of a short
  text tolerate any noise and are tied at the cap, where ``dM/du_j`` is mostly sampling error. In the linear limit with
  one direction v of change, ``J_j = v w_j'``, the length is ``c |change| |w_j|``: the mean of ``2 ln`` of it is
  ``ln G_j`` plus a constant of the example, because a draw's ``|change|`` shifts all tokens alike and cancels.

What was not: the closed form as a start, second-order steps in u, control variates from a linear model of phi (a
saturated classifier is not linear under noise of this size), orthogonal draws.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from attrlab.methods.noise import Phi, noise_like

START, RANGE = 5.0, 12.0
"""Log standard deviation below the cap: where it starts, and its lowest value."""

RATE, FINAL_RATE, MOMENTUM, EPS = 0.1, 0.02, 0.9, 1e-8
"""Adam: step size, the share of it left by the cosine, decay of the first moment, and guard of the division."""

MEMORY, LEAST_MEMORY = 1 / 8, 20
"""Steps the second moment remembers: this share of the steps, but at least so many."""

WINDOW, STILL = 25, 0.05
"""Steps per window of the stopping rule, and the change of a window's mean that counts as standing still."""

TAIL = 0.75
"""The estimate is the mean over the steps after this share of them; of an example that stood still, over the three
windows that showed it, if that is more."""

NOISE_BYTES = 1 << 26
"""Memory for noise drawn ahead."""

TINY = 1e-30
"""Added to the length of a gradient before its logarithm: a token the model does not read has none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """B independent optimisations, one per example.

    Attributes:
        phi: The representation, scaled so that its squared length is the mean squared entry.
        embeds: (B, L, d) clean input of the noise site.
        scorable: (B, L) tokens that get noise.
        reference: (B, D) representation of the clean input.
        spread: (B,) R, the unit of squared change, float64.
        log_cap: (B,) largest log standard deviation, float64.
    """

    phi: Phi
    embeds: Tensor
    scorable: Tensor
    reference: Tensor
    spread: Tensor
    log_cap: Tensor

    def take(self, rows: Tensor) -> "Problem":
        """Returns the problem of the given examples only."""
        return Problem(
            phi=lambda embeds, chosen: self.phi(embeds, rows[chosen]),
            embeds=self.embeds[rows],
            scorable=self.scorable[rows],
            reference=self.reference[rows],
            spread=self.spread[rows],
            log_cap=self.log_cap[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Weight of the entropy, noise draws per step, and largest number of steps."""

    lam: float
    draws: int
    steps: int


class Solution(NamedTuple):
    """What the optimisation found; all float64 but ``steps``.

    Attributes:
        u: (B, L) log standard deviation of the tolerated noise.
        slope: (B, L) tail mean of dM/du.
        sensitivity: (B, L) mean of ln |dM/de_j| over all draws.
        damage: (B,) tail mean of M.
        moved: (B,) largest change of u between the means of the last two windows; 0 with fewer steps than that.
        steps: (B,) steps taken.
    """

    u: Tensor
    slope: Tensor
    sensitivity: Tensor
    damage: Tensor
    moved: Tensor
    steps: Tensor


class Deviation(NamedTuple):
    """Means over draws, float64: M (R,), dM/du (R, L) and ln |dM/de_j| (R, L)."""

    damage: Tensor
    slope: Tensor
    log_length: Tensor


def deviation(problem: Problem, rows: Tensor, u: Tensor, noise: Tensor) -> Deviation:
    """Returns M, its derivative by the log scales, and the mean log length of its gradient at each token.

    Args:
        problem: The problem.
        rows: (R,) examples of the problem.
        u: (R, L) log standard deviations.
        noise: (K, R, L, d) standard normal, zero where not scorable.
    """
    clean, draws = problem.embeds[rows], len(noise)
    shift = u.exp().to(clean)[..., None] * noise
    noised = (clean + shift).flatten(0, 1).requires_grad_()
    with torch.enable_grad():
        change = problem.phi(noised, rows.repeat(draws)) - problem.reference[rows].repeat(draws, 1)
        damage = change.square().sum(1)
        (gradient,) = torch.autograd.grad(damage.sum(), noised)
    gradient = gradient.view(shift.shape)
    unit = problem.spread[rows]
    slope = (gradient * shift).sum(-1).double().sum(0) / (unit[:, None] * draws)
    lengths = gradient.double().square().sum(-1).sqrt() / unit[:, None]
    return Deviation(
        damage=damage.detach().double().view(draws, -1).sum(0) / (unit * draws),
        slope=slope,
        log_length=(lengths + TINY).log().sum(0) / draws,
    )


class _Record(NamedTuple):
    """Of every step: u after it (first: the start), and what was measured in it; and the moments of Adam."""

    path: Tensor
    slopes: Tensor
    lengths: Tensor
    damages: Tensor
    moments: Tensor


def optimise(
    problem: Problem, settings: Settings, rngs: Sequence[np.random.Generator], start: Tensor | None = None
) -> Solution:
    """Returns the noise each token tolerates: argmin over u of M(u) - lam * mean(u), per example (spec 1.1).

    An example that stands still for two windows stops and leaves the batch at once, so its cost does not depend on
    company.

    Args:
        problem: The examples.
        settings: Weight, draws and steps.
        rngs: One generator per example.
        start: (B, L) where u starts, less noise than at the optimum; None is ``START`` below the cap.
    """
    shape = (settings.steps + 1, *problem.scorable.shape)
    device = problem.embeds.device
    path, slopes, lengths = (torch.zeros(shape, dtype=torch.float64, device=device) for _ in range(3))
    path[0] = problem.log_cap[:, None] - START if start is None else start
    record = _Record(path, slopes, lengths, torch.zeros_like(path[..., 0]), torch.zeros_like(path[:2]))
    steps = torch.full((shape[1],), settings.steps, device=device)
    moved = torch.zeros_like(problem.log_cap)
    active = torch.arange(shape[1], device=device)
    for first in range(0, settings.steps, WINDOW):
        stop = min(first + WINDOW, settings.steps)
        _descend(problem, settings, [rngs[row] for row in active.tolist()], active, (first, stop), record)
        if stop >= 3 * WINDOW and stop - first == WINDOW:
            before, last = _changes(path[stop - 3 * WINDOW + 1 : stop + 1, active])
            moved[active] = last
            still = (before < STILL) & (last < STILL)
            steps[active[still]] = stop
            active = active[~still]
        if len(active) == 0:
            break
    tail = TAIL * steps
    tail = torch.where(steps < settings.steps, tail.minimum(steps - 3.0 * WINDOW), tail)
    return Solution(
        u=_mean_after(tail, path[1:], steps),
        slope=_mean_after(tail, slopes[1:], steps),
        sensitivity=_mean_after(0 * tail, lengths[1:], steps),
        damage=_mean_after(tail, record.damages[1:, :, None], steps)[:, 0],
        moved=moved,
        steps=steps,
    )


def sweep(
    problem: Problem, settings: Settings, lams: Sequence[float], rngs: Sequence[np.random.Generator]
) -> list[Solution]:
    """Returns the solution for every weight of the entropy, smallest first, each started from the one before.

    M and the entropy do not decrease with the weight (spec 1.3), so the solution before is a start with less noise,
    from which half the steps are enough. All weights see the same draws: differences between them are not luck.

    Args:
        problem: The examples.
        settings: Draws and steps; its own weight is not used.
        lams: Weights of the entropy, ascending.
        rngs: One generator per example; used up as by one call of :func:`optimise`.

    Raises:
        ValueError: If the weights do not ascend.
    """
    if list(lams) != sorted(lams):
        raise ValueError(f"lams={list(lams)}; give them in ascending order: each starts from the one before")
    solutions: list[Solution] = []
    for index, lam in enumerate(lams):
        steps = settings.steps if index == 0 else math.ceil(settings.steps / 2)
        draws = rngs if index + 1 == len(lams) else deepcopy(list(rngs))
        start = solutions[-1].u if solutions else None
        solutions.append(optimise(problem, replace(settings, lam=lam, steps=steps), draws, start))
    return solutions


def _mean_after(start: Tensor, values: Tensor, steps: Tensor) -> Tensor:
    """Returns the mean of (T, B, L) over each example's steps after ``start`` (B,) and up to ``steps`` (B,), (B, L)."""
    times = torch.arange(1, len(values) + 1, device=steps.device)[:, None]
    tail = ((times > start) & (times <= steps)).double()
    # A sum's order of addition depends on the shape of the whole tensor, that of a running sum does not.
    return (values * (tail / tail.sum(0))[..., None]).cumsum(0)[-1]


def _descend(
    problem: Problem,
    settings: Settings,
    rngs: Sequence[np.random.Generator],
    active: Tensor,
    span: tuple[int, int],
    record: _Record,
) -> None:
    """Takes the steps of one window for the active examples and writes them into the record."""
    scorable, embeds, cap = problem.scorable[active], problem.embeds[active], problem.log_cap[active, None]
    ahead = max(1, min(WINDOW, NOISE_BYTES // max(1, settings.draws * embeds.numel() * 4)))
    pull = settings.lam * scorable.double() / scorable.sum(1, keepdim=True, dtype=torch.float64).clamp(min=1)
    keep = 1 - 1 / max(LEAST_MEMORY, MEMORY * settings.steps)
    u, (first, second) = record.path[span[0], active], record.moments[:, active]
    noise = embeds.new_empty(0)
    for step in range(*span):
        index = (step - span[0]) % ahead
        if index == 0:
            noise = noise_like(scorable, embeds, (min(ahead, span[1] - step), settings.draws), rngs)
        damage, slope, length = deviation(problem, active, u, noise[index])
        gradient = slope - pull
        first = MOMENTUM * first + (1 - MOMENTUM) * gradient
        second = keep * second + (1 - keep) * gradient.square()
        unbiased = first / (1 - MOMENTUM ** (step + 1))
        size = (second / (1 - keep ** (step + 1))).sqrt() + EPS
        cosine = (1 + math.cos(math.pi * step / settings.steps)) / 2
        u = u - RATE * (FINAL_RATE + (1 - FINAL_RATE) * cosine) * unbiased / size
        u = u.clamp(cap - RANGE, cap)
        record.path[step + 1, active], record.slopes[step + 1, active] = u, slope
        record.lengths[step + 1, active], record.damages[step + 1, active] = length, damage
    record.moments[:, active] = torch.stack([first, second])


def _changes(path: Tensor) -> Tensor:
    """Returns the largest changes between the means of three successive windows, (3 * WINDOW, R, L) to (2, R)."""
    means = path.view(3, WINDOW, *path.shape[1:]).mean(1)
    return means.diff(dim=0).abs().flatten(2).amax(-1)
