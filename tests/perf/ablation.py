"""Every idea that was tried to make co-perturbation better, on or off at equal forward and backward passes.

    python tests/perf/ablation.py

For each variant: rank correlation between seeds, recall of planted words and the objective ``M - lam mean(u - ln
s_max)`` that was reached (fresh draws; lower is better), averaged over examples of two planted tasks and three minis;
behind each, the paired difference from the method as it is shipped, with a 95 % bootstrap interval over examples.
The first row is the shipped method without its stopping rule, so that all variants take the same number of passes.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from ancestor import prepare, recall
from scipy.stats import bootstrap, spearmanr
from torch import Tensor

from attrlab.bench import train
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.seeds import generator
from attrlab.bench.types import Floats
from attrlab.methods import tolerance
from attrlab.methods.co_perturbation import attribution, capped, pose
from attrlab.methods.lambda_study import edge_tokens
from attrlab.methods.noise import noise_like
from attrlab.methods.tolerance import Deviation, Problem, Settings, Solution, deviation, optimise

PASSES = 200
"""Forward passes of every variant, and as many backward: the fast preset."""

PROBES = 8
"""Backward passes spent on the clean Jacobian by the variants that use it."""

LAM, SHRINK = 0.1, 0.2

Draw = Callable[[int], Tensor]
"""Gives the noise (K, R, L, d) of a step."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is changed; the defaults are the shipped method at the fast preset."""

    name: str
    draws: int = 1
    noise: str = "independent"
    start: str = "low"
    steps: str = "adam"
    variate: bool = False
    memory: float = 0.0
    tail: float = tolerance.TAIL
    score: str = "shrunk"

    @property
    def probes(self) -> int:
        """Passes spent before the first step."""
        return PROBES if self.variate or self.start == "closed form" else 0


VARIANTS = (
    Variant(name="shipped (1 draw x 200 steps)"),
    Variant(name="recipe of the specification", draws=2, noise="antithetic", memory=20, score="ties by slope"),
    Variant(name="score: ln rho, ties by slope", score="ties by slope"),
    Variant(name="score: ln rho, ties by gradient", score="ties by gradient"),
    Variant(name="score: gradient alone", score="gradient"),
    Variant(name="2 independent draws x 100", draws=2),
    Variant(name="antithetic pairs x 100", draws=2, noise="antithetic"),
    Variant(name="4 orthogonal draws x 50", draws=4, noise="orthogonal"),
    Variant(name="4 independent draws x 50", draws=4),
    Variant(name="20 common draws, over and over", noise="common"),
    Variant(name="linear control variate", variate=True),
    Variant(name="no tail average", tail=1 - 0.5 / PASSES),
    Variant(name="closed-form start", start="closed form"),
    Variant(name="second-order steps", steps="newton"),
    Variant(name="memory of 1,000 steps", memory=1000),
)


def drawer(variant: Variant, problem: Problem, rngs: Sequence[np.random.Generator]) -> Draw:
    """Returns where the noise of each step comes from."""

    def fresh(count: int) -> Tensor:
        return noise_like(problem.scorable, problem.embeds, (count,), rngs)

    if variant.noise == "antithetic":
        return lambda _step: torch.cat([half := fresh(variant.draws // 2), -half])
    if variant.noise == "orthogonal":

        def orthogonal(_step: int) -> Tensor:
            noise = fresh(variant.draws)
            flat = noise.transpose(0, 1).flatten(2)
            basis = torch.linalg.qr(flat.mT).Q.mT * flat.norm(dim=2, keepdim=True)
            return basis.view(len(flat), *noise.shape[:1], *noise.shape[2:]).transpose(0, 1)

        return orthogonal
    if variant.noise == "common":
        kept = fresh(20)
        return lambda step: kept[step % 20, None]
    return lambda _step: fresh(variant.draws)


def jacobian(problem: Problem) -> Tensor:
    """Returns the clean Jacobian seen through random directions v of the output: v'J, (PROBES, R, L, d)."""
    rows = torch.arange(len(problem.spread))
    probe = torch.from_numpy(np.random.default_rng(0).standard_normal((PROBES, *problem.reference.shape)))
    embeds = problem.embeds.detach().requires_grad_()
    with torch.enable_grad():
        output = problem.phi(embeds, rows)
        parts = [torch.autograd.grad((output * one.to(output)).sum(), embeds, retain_graph=True)[0] for one in probe]
    return torch.stack(parts).detach()


def without_linear_part(problem: Problem, u: Tensor, noise: Tensor, found: Deviation, sketch: Tensor) -> Deviation:
    """Subtracts the sampling error of the linear model of phi, whose expectation is known."""
    shift = u.exp().to(noise)[:, :, None] * noise
    part = torch.einsum("krld,prld->kprl", shift, sketch)
    error = 2 * (part * part.sum(3, keepdim=True)).mean(1).mean(0).double()
    expected = 2 * sketch.double().square().sum(3).mean(0) * (2 * u).exp()
    return found._replace(slope=found.slope - (error - expected) / problem.spread[:, None])


def low_start(problem: Problem, variant: Variant, pull: Tensor, sketch: Tensor) -> Tensor:
    """Returns where u starts: little noise, or the closed form of the small-noise limit."""
    cap = problem.log_cap[:, None]
    if variant.start == "low":
        return (cap - tolerance.START).expand(pull.shape)
    norms = sketch.double().square().sum(3).mean(0) / problem.spread[:, None]
    return (pull / (2 * norms + 1e-30)).log().div(2).clamp(cap - tolerance.RANGE, cap - 0.5)


def descend(problem: Problem, variant: Variant, rngs: Sequence[np.random.Generator]) -> Solution:
    """Returns the solution of a variant, without a stopping rule."""
    steps = (PASSES - variant.probes) // variant.draws
    cap, rows = problem.log_cap[:, None], torch.arange(len(problem.spread))
    pull = LAM * problem.scorable / problem.scorable.sum(1, keepdim=True).double()
    keep = 1 - 1 / (variant.memory or max(tolerance.LEAST_MEMORY, tolerance.MEMORY * steps))
    draw, sketch = drawer(variant, problem, rngs), jacobian(problem) if variant.probes else torch.empty(0)
    u = low_start(problem, variant, pull, sketch)
    first, second = torch.zeros_like(u), torch.zeros_like(u)
    path, seen = [], []
    for step in range(steps):
        noise = draw(step)
        found = deviation(problem, rows, u, noise)
        if variant.variate:
            found = without_linear_part(problem, u, noise, found, sketch)
        gradient = found.slope - pull
        first = tolerance.MOMENTUM * first + (1 - tolerance.MOMENTUM) * gradient
        second = keep * second + (1 - keep) * gradient.square()
        cosine = (1 + math.cos(math.pi * step / steps)) / 2
        rate = tolerance.FINAL_RATE + (1 - tolerance.FINAL_RATE) * cosine
        if variant.steps == "newton":  # where M is quadratic in s, its second derivative at the optimum is 2 lam / m
            move = (gradient / pull.clamp(min=1e-12) / 2).clamp(-1, 1) * 0.3
        else:
            size = (second / (1 - keep ** (step + 1))).sqrt() + tolerance.EPS
            move = tolerance.RATE * first / (1 - tolerance.MOMENTUM ** (step + 1)) / size
        u = (u - rate * move).clamp(cap - tolerance.RANGE, cap)
        path.append(u)
        seen.append(found)
    return _averaged(path, seen, math.floor(variant.tail * steps))


def _averaged(path: Sequence[Tensor], seen: Sequence[Deviation], after: int) -> Solution:
    nothing = torch.zeros(len(path[0]), dtype=torch.float64)
    return Solution(
        u=torch.stack([*path][after:]).mean(0),
        slope=torch.stack([one.slope for one in seen[after:]]).mean(0),
        sensitivity=torch.stack([one.log_length for one in seen]).mean(0),
        damage=nothing,
        moved=nothing,
        steps=torch.full((len(nothing),), len(path)),
    )


def scores_of(problem: Problem, solution: Solution, score: str) -> Tensor:
    """Returns the attribution by one of the rules for a score."""
    if score == "shrunk":
        return attribution(solution, SHRINK)
    if score == "gradient":
        return solution.sensitivity
    tokens = problem.scorable.sum(1, keepdim=True)
    order = 1e-3 * tokens / LAM * solution.slope if score == "ties by slope" else 1e-5 * solution.sensitivity
    return -2 * solution.u + order * capped(problem, solution)


@torch.no_grad()
def objective(problem: Problem, solution: Solution) -> Tensor:
    """Returns J at a solution, on 64 fresh draws that all variants share, (R,)."""
    rows = torch.arange(len(problem.spread))
    fresh = noise_like(problem.scorable, problem.embeds, (64,), [np.random.default_rng(row) for row in rows.tolist()])
    shift = solution.u.exp().to(fresh)[..., None] * fresh
    change = torch.stack([problem.phi(problem.embeds + one, rows) - problem.reference for one in shift])
    damage = change.double().square().sum(2).mean(0) / problem.spread
    below = ((solution.u - problem.log_cap[:, None]) * problem.scorable).sum(1) / problem.scorable.sum(1)
    return damage - LAM * below


def measure(model: TextModel, encoded: Sequence[Encoded], seeds: int) -> dict[str, Floats]:
    """Returns per variant (3, examples): rank correlation of seeds, planted recall, objective."""
    batch = model.collate([whole(one) for one in encoded], [one.units >= 0 for one in encoded])
    problem, _ = pose(model, batch.take(torch.arange(len(encoded)).repeat(seeds)))
    found: dict[str, Floats] = {}
    solved: dict[Variant, Solution] = {}
    for variant in VARIANTS:
        same = replace(variant, name="", score="")
        if same not in solved:
            rngs = [generator(seed, one.example.id) for seed in range(seeds) for one in encoded]
            solved[same] = descend(problem, variant, rngs)
        values = scores_of(problem, solved[same], variant.score).view(seeds, len(encoded), -1).numpy()
        rows = [_summary(model, one, values[:, row]) for row, one in enumerate(encoded)]
        reached = objective(problem, solved[same]).view(seeds, -1).mean(0).numpy()
        found[variant.name] = np.vstack([np.array(rows).T, reached])
        print(".", end="", file=sys.stderr, flush=True)
    _check(problem, solved[replace(VARIANTS[0], name="", score="")], encoded, seeds)
    return found


def _summary(model: TextModel, encoded: Encoded, tokens: Floats) -> tuple[float, float]:
    marks, words = np.flatnonzero(encoded.units >= 0), edge_tokens(encoded, model.decoder)
    agreement = [spearmanr(one[marks], two[marks]).statistic for one, two in combinations(tokens, 2)]
    return float(np.mean(agreement)), float(np.mean([recall(encoded, one[words]) for one in tokens]))


def _check(problem: Problem, shipped: Solution, encoded: Sequence[Encoded], seeds: int) -> None:
    """Makes sure that the first variant is what the package ships."""
    rngs = [generator(seed, one.example.id) for seed in range(seeds) for one in encoded]
    still, tolerance.STILL = tolerance.STILL, -1.0  # type: ignore[misc]
    ours = optimise(problem, Settings(lam=LAM, draws=1, steps=PASSES), rngs)
    tolerance.STILL = still  # type: ignore[misc]
    torch.testing.assert_close(shipped.u, ours.u, rtol=0, atol=1e-3)
    torch.testing.assert_close(shipped.sensitivity, ours.sensitivity, rtol=0, atol=1e-3)


def cell(values: Floats, shipped: Floats) -> str:
    """Returns a mean, and the paired difference from the shipped method with its interval."""
    difference = values - shipped
    if not difference.any():
        return f"{values.mean():.3f}"
    interval = bootstrap((difference,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    return f"{values.mean():.3f} ({difference.mean():+.3f} [{interval.low:+.3f}, {interval.high:+.3f}])"


def main() -> None:
    """Reads the options, measures on one thread and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="Ablation of co-perturbation at equal passes.")
    parser.add_argument("--examples", type=int, default=24, help="per mini and data set")
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    found: dict[str, list[Floats]] = {}
    with train.one_thread():
        for dataset in ("and_pair", "shortcut"):
            for mini in ("bert-base-mini", "gpt2-mini", "opt-125m-mini"):
                for name, values in measure(*prepare(mini, dataset, options.examples), options.seeds).items():
                    found.setdefault(name, []).append(values)
    joined = {name: np.concatenate(parts, axis=1) for name, parts in found.items()}
    shipped = joined[VARIANTS[0].name]
    print(f"{PASSES} forward and {PASSES} backward passes; {shipped.shape[1]} examples, {options.seeds} seeds\n")
    print("| variant | seeds: all tokens (higher) | planted recall (higher) | objective (lower) |\n|---|---|---|---|")
    for name, values in joined.items():
        print(f"| {name} | " + " | ".join(cell(*pair) for pair in zip(values, shipped, strict=True)) + " |")


if __name__ == "__main__":
    main()
