"""Gradients accumulated along a path from a baseline to the text (methods spec 5).

The gradients of one example come in blocks of a fixed shape (see ``noise.in_blocks``) and are added node by node: its
scores are the same bit for bit in any company, and so is the decision whether it needs more nodes. Captum's
``IntegratedGradients`` offers neither; with the same nodes the two agree.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.errors import NotApplicableError
from attrlab.bench.model import TextModel
from attrlab.methods.gradients import length, total
from attrlab.methods.noise import in_blocks, natural_scale, noise_like

ROWS = 10
"""Largest number of path points of one example whose gradients are held at once: bounds memory."""

BASELINES = ("replace", "zero", "mean", "pad", "unk")
"""Where a path may start: see :func:`baseline_of`."""

SMOOTH, KINKED = 1e-3, 2e-2
"""Largest share of the change of F by which the sum of the scores may miss it, without and with ReLU (spec 5.1)."""

TINY = 1e-12
"""Smallest change of F that is divided by."""


def check_baseline(baseline: str, allowed: Sequence[str] = BASELINES) -> str:
    """Returns ``baseline``.

    Raises:
        ValueError: If it is not allowed.
    """
    if baseline not in allowed:
        raise ValueError(f"baseline={baseline!r}; allowed: {', '.join(allowed)}")
    return baseline


def baseline_of(model: TextModel, batch: Batch, name: str) -> Tensor:
    """Returns where a path starts, (B, L, d): one vector at every token that can be attributed, own row elsewhere.

    Args:
        model: The model.
        batch: B examples; noise on them is part of the text, not of the baseline.
        name: ``replace`` (row of the replacement token), ``zero``, ``mean`` (mean row of the vocabulary), ``pad`` or
            ``unk`` (row of that special token).

    Raises:
        NotApplicableError: If the tokenizer has no such token.
    """
    own = model.baseline(batch).detach()
    if name == "replace":
        return own
    if name in ("pad", "unk"):
        index = getattr(model.tokenizer, f"{name}_token_id")
        if index is None:
            raise NotApplicableError(f"model {model.name!r} has no {name} token to start a path from")
        row = model.embedding[index]
    else:
        row = model.embedding.mean(0) * (name == "mean")
    return torch.where(batch.scorable[..., None], row.detach(), own)


def gradient_at(model: TextModel, part: Batch, targets: Targets, embeds: Tensor) -> Tensor:
    """Returns dF/de (R, L, d) at embeddings of the rows of a batch."""
    with torch.enable_grad():
        inputs = embeds.detach().requires_grad_()
        values = targets.of(model.forward(part, inputs).logits, part)
        (gradient,) = torch.autograd.grad(values.sum(), inputs)
    return gradient


def gradients_at(model: TextModel, batch: Batch, targets: Targets, points: Tensor) -> Tensor:
    """Returns dF/de (K, B, L, d) at K points (K, B, L, d) of every example."""
    rows = torch.arange(len(batch), device=points.device).repeat(len(points))
    flat = points.flatten(0, 1)
    (gradients,) = in_blocks(batch, rows, lambda part, at: (gradient_at(model, part, targets, flat[at]),))
    return gradients.view(points.shape)


def change_between(model: TextModel, batch: Batch, targets: Targets, start: Tensor, end: Tensor) -> Tensor:
    """Returns ``F(end) - F(start)`` of embeddings (B, L, d), (B,), float64; two forward passes."""
    flat = torch.cat([start, end])
    rows = torch.arange(len(batch), device=flat.device).repeat(2)
    with torch.no_grad():
        (values,) = in_blocks(batch, rows, lambda part, at: (targets.of(model.forward(part, flat[at]).logits, part),))
    return values.double().view(2, -1).diff(dim=0)[0]


def gauss_legendre(nodes: int) -> tuple[list[float], list[float]]:
    """Returns where on [0, 1] and with which weights an integral is read off."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    return (0.5 + 0.5 * places).tolist(), (0.5 * weights).tolist()


def straight(model: TextModel, batch: Batch, targets: Targets, ends: tuple[Tensor, Tensor], nodes: int) -> Tensor:
    """Returns the mean of dF/de over the straight line between two texts (B, L, d), times their difference."""
    start, delta = ends[0], ends[1] - ends[0]
    places, weights = gauss_legendre(nodes)
    mean = torch.zeros_like(delta)
    for first in range(0, nodes, ROWS):
        points = torch.stack([start + place * delta for place in places[first : first + ROWS]])
        gradients = gradients_at(model, batch, targets, points)
        for weight, gradient in zip(weights[first:], gradients, strict=False):
            mean += weight * gradient
    return delta * mean


def completeness(parts: Tensor, scorable: Tensor, change: Tensor) -> Tensor:
    """Returns by how much the parts (B, L, d) of all tokens exceed the change of F (B,) in sum, (B,), float64."""
    return (parts.double().sum(-1) * scorable).sum(1) - change


def tolerance(model: TextModel) -> float:
    """Returns by which share of the change of F an integral may miss it: kinks in the model make it less exact."""
    return KINKED if any(isinstance(module, nn.ReLU) for module in model.network.modules()) else SMOOTH


class IntegratedGradients:
    """Attributes ``F(text) - F(baseline)`` along the straight line between them (methods spec 5.1; signed).

    Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks". An example whose scores miss that total by
    more than the tolerance of the specification is integrated again with twice the nodes.

    Args:
        steps: Gauss-Legendre nodes on the path.
        max_steps: Largest number of nodes that an example may be given; 0 never doubles.
        baseline: ``replace``, ``zero``, ``mean``, ``pad`` or ``unk``, see :func:`baseline_of`.

    Raises:
        ValueError: If a value is not allowed.
    """

    aggregate = "sum"
    reduce: Callable[[Tensor], Tensor] = staticmethod(total)

    def __init__(self, *, steps: int = 50, max_steps: int = 400, baseline: str = "replace") -> None:
        if steps < 1 or max_steps < 0:
            raise ValueError(f"steps={steps}, max_steps={max_steps}; allowed: at least 1 and at least 0")
        self.steps = steps
        self.max_steps = max_steps
        self.baseline = check_baseline(baseline)

    @property
    def rows(self) -> int:
        """Path points of one example that are held at once."""
        return min(ROWS, self.steps)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the integral, (B, L), with how well it is complete.

        Stats: ``completeness_gap`` (sum of the integral minus the change of F), ``steps`` (nodes used at last) and
        ``incomplete`` (1 if the gap is larger than the tolerance even so).

        Raises:
            NotApplicableError: If the model has no token for the baseline.
        """
        start, end = baseline_of(model, batch, self.baseline), model.embed(batch).detach()
        change = change_between(model, batch, targets, start, end)
        allowed = tolerance(model) * change.abs().clamp(min=1)
        parts, gap = torch.zeros_like(end), torch.zeros_like(change)
        nodes = torch.full_like(change, self.steps)
        rows, steps = torch.arange(len(batch), device=end.device), self.steps
        while True:
            found = straight(model, batch.take(rows), targets, (start[rows], end[rows]), steps)
            parts[rows], nodes[rows] = found, float(steps)
            gap[rows] = completeness(found, batch.scorable[rows], change[rows])
            rows, steps = (gap.abs() > allowed).nonzero()[:, 0], 2 * steps
            if len(rows) == 0 or steps > self.max_steps:
                break
        stats = torch.stack([gap, nodes, (gap.abs() > allowed).double()], 1).tolist()
        keys = ("completeness_gap", "steps", "incomplete")
        return Explained(self.reduce(parts), [dict(zip(keys, row, strict=True)) for row in stats])


class IntegratedGradientsLength(IntegratedGradients):
    """Attributes by the Euclidean length of integrated gradients over dimensions (methods spec 5.1, l2; unsigned)."""

    aggregate = "max"
    reduce = staticmethod(length)


class GradientShap:
    """Attributes by integrated gradients with random nodes, baselines and noise (methods spec 5.3; signed).

    Lundberg and Lee 2017, "A Unified Approach to Interpreting Model Predictions". The mean over draws of
    ``(e' - b) . dF/de(b + alpha (e' - b))`` with alpha uniform on [0, 1], b the row of the replacement token, the mean
    row or zero, and ``e' = e`` plus noise. In expectation the scores sum to F at the noised text less F at the
    baseline. Captum's ``GradientShap`` draws from global generators, so an example's draws would depend on its
    company: the draws are ours.

    Args:
        draws: Number of draws.
        tau: Standard deviation of the noise, in that of the entries of the word-embedding matrix.
        baseline: ``any`` draws one of the three for each draw; ``replace``, ``mean`` or ``zero`` is always that one.

    Raises:
        ValueError: If a value is not allowed.
    """

    aggregate = "sum"
    baselines = ("replace", "mean", "zero")

    def __init__(self, *, draws: int = 50, tau: float = 0.1, baseline: str = "any") -> None:
        if draws < 1 or tau < 0:
            raise ValueError(f"draws={draws}, tau={tau}; allowed: at least 1 and at least 0")
        self.draws = draws
        self.tau = tau
        self.baseline = check_baseline(baseline, ("any", *self.baselines))

    @property
    def rows(self) -> int:
        """Path points of one example that are held at once."""
        return min(ROWS, self.draws)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the mean over draws, (B, L)."""
        embeds = model.embed(batch).detach()
        names = self.baselines if self.baseline == "any" else (self.baseline,)
        starts = torch.stack([baseline_of(model, batch, name) for name in names])
        scale = self.tau * natural_scale(model, "words", embeds, batch.scorable).to(embeds)[:, None, None]
        alphas = torch.from_numpy(np.stack([rng.random(self.draws) for rng in rngs], 1)).to(embeds)[..., None, None]
        chosen = torch.from_numpy(np.stack([rng.integers(len(names), size=self.draws) for rng in rngs], 1))
        own = torch.arange(len(batch))
        scores = torch.zeros(batch.ids.shape, dtype=torch.float64, device=embeds.device)
        for first in range(0, self.draws, ROWS):
            part = slice(first, min(first + ROWS, self.draws))
            ends = embeds + scale * noise_like(batch.scorable, embeds, (part.stop - first,), rngs)
            start = starts[chosen[part], own]
            gradients = gradients_at(model, batch, targets, start + alphas[part] * (ends - start))
            scores += ((ends - start) * gradients).double().sum(-1).sum(0)
        return Explained(scores / self.draws)
