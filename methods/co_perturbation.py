"""Adaptive co-perturbation: the largest noise each token tolerates while all tokens are noised (methods spec 1)."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.model import TextModel
from attrlab.bench.states import check_site
from attrlab.methods.noise import check_phi, clean, natural_scale, natural_spread, representation
from attrlab.methods.tolerance import Problem, Settings, Solution, optimise

PRESETS = {"fast": (1, 200), "default": (2, 400), "full": (4, 800)}
"""Draws per step and steps; their product is the number of forward and of backward passes."""

CAPPED = 0.98
"""Share of the cap from which a token counts as capped."""

COLLAPSED = 0.5
"""Damage M, in units of the natural spread, from which the representation counts as destroyed."""

HALVINGS = 6
"""Most times that ``auto_lambda`` halves the weight of the entropy."""


def pose(
    model: TextModel, batch: Batch, phi: str = "readout", site: str = "words", cap: float = 10.0
) -> tuple[Problem, bool]:
    """Returns the optimisation problem of a batch, and whether its unit of change comes from a calibration set."""
    mapped = representation(model, batch, phi, site)
    with torch.no_grad():
        embeds = clean(model, batch, site)
        reference = mapped(embeds, torch.arange(len(batch), device=embeds.device))
    spread, calibrated = natural_spread(model, phi, reference)
    log_cap = (cap * natural_scale(model, site, embeds, batch.scorable)).log()
    problem = Problem(
        phi=mapped, embeds=embeds, scorable=batch.scorable, reference=reference, spread=spread, log_cap=log_cap
    )
    return problem, calibrated


def attribution(solution: Solution, shrink: float) -> Tensor:
    """Returns ln(rho) = -2u per token (B, L), shrunk towards twice the log length of the gradient, float64.

    Both are ln(rho) up to a constant of the example in the small-noise limit, see :mod:`attrlab.methods.tolerance`.
    """
    return 2 * (shrink * solution.sensitivity - (1 - shrink) * solution.u)


def capped(problem: Problem, solution: Solution) -> Tensor:
    """Returns which tokens tolerate the most noise there is, (B, L)."""
    return (solution.u >= problem.log_cap[:, None] + math.log(CAPPED)) & problem.scorable


def diagnostics(problem: Problem, solution: Solution, lam: Tensor) -> dict[str, Tensor]:
    """Returns per example (B,) what tells a good optimum from a poor one.

    ``M``: damage. ``entropy``: mean of u. ``capped``: share of tokens. ``kkt``: mean over tokens below the cap of
    ``(m / lam) dM/du``, 1 at an optimum (and 1 where no token is below the cap). ``moved``: change of u between the
    last two windows of steps. ``collapsed``: the representation is destroyed, or all of several tokens are capped and
    their order is lost. A high share alone is no collapse: where one word of twelve matters, 92 % are capped.
    """
    tokens = problem.scorable.sum(1).clamp(min=1)
    at_cap = capped(problem, solution)
    free = problem.scorable & ~at_cap
    ratio = (solution.slope * free).sum(1) / free.sum(1).clamp(min=1) * tokens / lam
    return {
        "M": solution.damage,
        "entropy": (solution.u * problem.scorable).sum(1) / tokens,
        "capped": at_cap.sum(1) / tokens,
        "kkt": torch.where(free.any(1), ratio, 1.0),
        "moved": solution.moved,
        "steps": solution.steps,
        "collapsed": (solution.damage > COLLAPSED) | (~free.any(1) & (tokens > 1)),
        "lam": lam,
    }


class CoPerturbation:
    """Attributes by the noise every token tolerates while all are noised at once (methods spec 1; unsigned).

    Higher means that less noise is tolerated. It explains the representation, not a class. The score is ln(1/s^2), s
    the standard deviation of the tolerated noise, shrunk towards the length of the gradient on the way there.

    Args:
        lam: Weight of the entropy against the change of the representation; higher values cap more tokens.
        preset: ``fast`` (1 draw x 200 steps), ``default`` (2 x 400) or ``full`` (4 x 800).
        draws: Noise draws per step; 0 takes the preset's.
        steps: Largest number of optimisation steps; 0 takes the preset's.
        phi: Representation: ``readout`` (hidden state at the pooling position), ``logits``, ``probs``, ``hidden:K``
            (block K, all tokens), ``hidden:K:pooled``, ``lm`` (where a causal model predicts next tokens).
        site: Where noise enters: ``words`` (word embeddings) or ``h0`` (input of the first block).
        cap: Largest standard deviation, in those of the entries at the site.
        shrink: Weight of the gradient's length in the score, in [0, 1); 0 is ln(1/s^2) itself, with ties at the cap.
        auto_lambda: Halve ``lam`` and run again where the optimum has collapsed.

    Raises:
        ValueError: If a value is not allowed.
    """

    aggregate = "edge"

    def __init__(  # noqa: PLR0913 - one parameter per documented option
        self,
        *,
        lam: float = 0.1,
        preset: str = "default",
        draws: int = 0,
        steps: int = 0,
        phi: str = "readout",
        site: str = "words",
        cap: float = 10.0,
        shrink: float = 0.2,
        auto_lambda: bool = False,
    ) -> None:
        if preset not in PRESETS:
            raise ValueError(f"preset={preset!r}; allowed: {', '.join(PRESETS)}")
        if not (lam > 0 and cap > 0 and draws >= 0 and steps >= 0):
            raise ValueError(f"lam={lam}, cap={cap} must be positive, draws={draws}, steps={steps} not negative")
        if not 0 <= shrink < 1:
            raise ValueError(f"shrink={shrink}; allowed: from 0 to below 1")
        usual = PRESETS[preset]
        self.draws = draws or usual[0]
        self.steps = steps or usual[1]
        self.lam = lam
        self.phi = check_phi(phi)
        self.site = check_site(site)
        self.cap = cap
        self.shrink = shrink
        self.auto_lambda = auto_lambda

    @property
    def rows(self) -> int:
        """Rows per example in one forward pass."""
        return self.draws

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the scores, (B, L), and the diagnostics of the optimisation; ``targets`` play no part."""
        problem, calibrated = pose(model, batch, self.phi, self.site, self.cap)
        return self.solve(problem, rngs, calibrated)

    def solve(self, problem: Problem, rngs: Sequence[np.random.Generator], calibrated: bool) -> Explained:
        """Returns the scores of a problem and its diagnostics, of which one says that R is not calibrated."""
        settings = Settings(lam=self.lam, draws=self.draws, steps=self.steps)
        lam = torch.full_like(problem.log_cap, self.lam)
        solution = optimise(problem, settings, rngs)
        columns = diagnostics(problem, solution, lam)
        for halving in range(1, 1 + HALVINGS * self.auto_lambda):
            rows = columns["collapsed"].nonzero()[:, 0]
            if len(rows) == 0:
                break
            lam[rows] = self.lam / 2**halving
            weaker = replace(settings, lam=self.lam / 2**halving)
            again = optimise(problem.take(rows), weaker, [rngs[row] for row in rows.tolist()])
            for mine, found in zip(solution, again, strict=True):
                mine[rows] = found
            columns = diagnostics(problem, solution, lam)
        columns["uncalibrated"] = torch.full_like(lam, not calibrated)
        values = {name: column.tolist() for name, column in columns.items()}
        stats = [{name: float(column[row]) for name, column in values.items()} for row in range(len(lam))]
        return Explained(attribution(solution, self.shrink), stats)
