"""Does the gate let an unchanged stochastic method pass, and stop one whose scores are wrong in a fifth of the texts?

Run by hand:  python tests/acceptance/gate_runs.py OUT [--runs 20] [--limit N] [--method lime:samples=100]...

A baseline is run with seed 0; then, for every other seed, the suite ``ci`` with the method as it is, which has to pass
every time, and with its scores permuted in 20 % of the texts, which has to fail in all runs but at most one in twenty.
The same command goes on where it was interrupted. Exit code 1 if either share is missed.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.facts import MethodFacts
from attrlab.bench.model import TextModel
from attrlab.bench.registry import METHODS
from attrlab.bench.types import Asker, Estimate, Floats, Game

METHODS_TRIED = ("lime:samples=100", "co_perturbation:preset=fast")
SHARE = 0.2
"""Share of the texts in which scores are permuted."""


def permuted(of: str = "leave_one_out") -> "PermutedAsker | PermutedWhiteBox":
    """Returns a method whose scores are those of another one, permuted over the words in 20 % of the texts.

    Args:
        of: A method as on the command line, with semicolons between parameters.
    """
    inner = METHODS.find(of.replace(";", ",")).build()
    return PermutedWhiteBox(inner) if hasattr(inner, "attribute") else PermutedAsker(inner)


def _facts(own: MethodFacts, of: str = "leave_one_out") -> MethodFacts:
    inner = METHODS.find(of.replace(";", ",")).facts
    return replace(inner, where=own.where, summary=own.summary, deterministic=False, complete=False)


permuted.facts = _facts  # type: ignore[attr-defined]  # the registry asks it once the parameters are known


def order(n: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a random order of n places in 20 % of the draws, else the order that there is."""
    return rng.permutation(n) if rng.random() < SHARE else np.arange(n)


class PermutedAsker:
    """A black-box method, its scores permuted now and then."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns the inner method's scores, ``(m,)``."""
        found = yield from self.inner.ask(game, rng)
        scores = np.asarray(found.scores if isinstance(found, Estimate) else found)
        return scores[order(len(scores), rng)]


class PermutedWhiteBox:
    """A white-box method, its scores permuted over the tokens now and then."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.aggregate = getattr(inner, "aggregate", "sum")
        self.rows = getattr(inner, "rows", 1)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the inner method's scores, (B, L)."""
        found = self.inner.attribute(model, batch, targets, rngs)
        scores = found.scores.clone()
        for row, rng in enumerate(rngs):
            places = torch.nonzero(batch.scorable[row]).flatten()
            scores[row, places] = scores[row, places[order(len(places), rng)]]
        return Explained(scores, found.stats)


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Calls attrlab."""
    command = [str(Path(sys.executable).parent / "attrlab"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(out: Path, seed: int, limit: int | None, methods: Sequence[str]) -> None:
    """Runs the suite with a seed."""
    listed = [part for method in methods for part in ("--method", method)]
    limited = [] if limit is None else ["--limit", limit]
    done = call("run", "ci", *listed, *limited, "--seed", seed, "--out", out)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def passes(out: Path, baseline: Path, method: str) -> bool:
    """Returns whether the gate lets a method pass; shows what failed."""
    done = call("gate", out, "--baseline", baseline, "--method", method)
    if done.returncode not in (0, 1):
        sys.exit(done.stdout + done.stderr)
    print(f"{out.name}  {'passes' if done.returncode == 0 else 'FAILS '}  {method}", flush=True)
    return done.returncode == 0


def main() -> int:
    """Runs everything and prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--method", action="append")
    given = parser.parse_args()
    methods = given.method or METHODS_TRIED
    wrong = [f"{Path(__file__).resolve()}:permuted:of={method.replace(',', ';')}" for method in methods]
    baseline = given.out / "baseline"
    run(baseline, 0, given.limit, methods)
    passed, stopped = dict.fromkeys(methods, 0), dict.fromkeys(methods, 0)
    for seed in range(1, given.runs + 1):
        out = given.out / f"seed-{seed:02}"
        run(out, seed, given.limit, [*methods, *wrong])
        for method, other in zip(methods, wrong, strict=True):
            passed[method] += passes(out, baseline, method)
            stopped[method] += not passes(out, baseline, f"{other}={method}")
    for method in methods:
        print(f"{method}: unchanged passed {passed[method]} of {given.runs}, permuted stopped {stopped[method]}")
    least = given.runs - given.runs // 20
    return int(any(passed[method] < given.runs or stopped[method] < least for method in methods))


if __name__ == "__main__":
    sys.exit(main())
