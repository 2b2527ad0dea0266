"""What each preset of co-perturbation costs and gives, against leave-one-out, gradients, Shapley values and chance.

    python tests/perf/presets.py --mini bert-base-mini --mini gpt2-mini --mini opt-125m-mini --dataset and_pair

prints, per mini: passes and seconds per example (one thread, batches of texts of like length); rank correlation
between seeds over all tokens, and over those below the cap under both seeds; and the recall of planted words. Means
with 95 % bootstrap intervals over examples that the model predicts right and that have planted words.
"""

import argparse
import time
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from ancestor import interval, prepare, recall
from scipy.stats import spearmanr

from attrlab.bench import train
from attrlab.bench.engine import Engine
from attrlab.bench.explain import Question, outcomes
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.registry import METHODS
from attrlab.bench.removal import whole
from attrlab.bench.seeds import generator
from attrlab.bench.types import Bools, Floats
from attrlab.methods.co_perturbation import PRESETS, CoPerturbation, attribution, capped, pose
from attrlab.methods.tolerance import Settings, optimise

BASELINES = ("random", "leave_one_out", "integrated_gradients", "shapley_sampling")
BATCH = 16


class Row(NamedTuple):
    """One value per example, NaN where there is none."""

    passes: Floats
    seconds: Floats
    recall: Floats
    all_tokens: Floats
    below_cap: Floats


def explained(model: TextModel, encoded: Sequence[Encoded], name: str) -> tuple[Floats, Floats, Floats]:
    """Returns passes (forward and backward), seconds and planted recall of a method, per example."""
    component = METHODS.find(name)
    engine = Engine(model, encoded)
    questions = [
        Question(slot=slot, target=one.example.label or 0, seed=(0, one.example.id, component.key()))
        for slot, one in enumerate(encoded)
    ]
    found = outcomes(component.build(), questions, engine)
    columns = [
        (one.cost.forwards + one.cost.backwards, one.cost.seconds, recall(text, one.scores))
        for text, one in zip(encoded, found, strict=True)
        if one.scores is not None
    ]
    return tuple(np.array(column, dtype=np.float64) for column in zip(*columns, strict=True))  # type: ignore[return-value]


def under_seeds(model: TextModel, encoded: Sequence[Encoded], preset: str, seeds: int) -> tuple[Floats, Floats]:
    """Returns per example the mean rank correlation between seeds: of all tokens, and of those below the cap."""
    method = CoPerturbation(preset=preset)
    settings = Settings(lam=method.lam, draws=method.draws, steps=method.steps)
    pairs = []
    for start in range(0, len(encoded), BATCH):
        part = encoded[start : start + BATCH]
        batch = model.collate([whole(one) for one in part], [one.units >= 0 for one in part])
        problem, _ = pose(model, batch.take(torch.arange(len(part)).repeat(seeds)))
        rngs = [generator(seed, one.example.id) for seed in range(seeds) for one in part]
        solution = optimise(problem, settings, rngs)
        scores = attribution(solution, method.shrink).view(seeds, len(part), -1).numpy()
        free = (~capped(problem, solution)).view(seeds, len(part), -1).numpy()
        for row, one in enumerate(part):
            marks = np.flatnonzero(one.units >= 0)
            pairs.append(_agreement(scores[:, row, marks], free[:, row, marks]))
    return tuple(np.array(pairs).T)  # type: ignore[return-value]


def _agreement(scores: Floats, free: Bools) -> tuple[float, float]:
    everywhere, below = [], []
    for first, second in combinations(range(len(scores)), 2):
        both = free[first] & free[second]
        everywhere.append(spearmanr(scores[first], scores[second]).statistic)
        if both.sum() > 2:
            below.append(spearmanr(scores[first][both], scores[second][both]).statistic)
    return float(np.mean(everywhere)), float(np.mean(below)) if below else np.nan


def measure(mini: str, dataset: str, counts: tuple[int, int, int], presets: Sequence[str]) -> dict[str, Row]:
    """Returns the rows of a table: presets, then baselines."""
    examples, repeated, seeds = counts
    model, encoded = prepare(mini, dataset, examples)
    few = sorted(
        (encoded[index] for index in np.random.default_rng(0).permutation(len(encoded))[:repeated]),
        key=lambda one: len(one.ids),
    )
    rows = {}
    for name in presets:
        found = explained(model, encoded, f"co_perturbation:preset={name}")
        rows[name] = Row(*found, *under_seeds(model, few, name, seeds))
    for name in BASELINES:
        nothing = np.full(1, np.nan)
        rows[name] = Row(*explained(model, encoded, name), nothing, nothing)
    return rows


def show(values: Floats) -> str:
    """Returns the mean of the values that there are, with its interval."""
    values = values[np.isfinite(values)]
    return interval(np.mean, values) if len(values) else ""


def report(rows: dict[str, Row]) -> None:
    """Prints a Markdown table."""
    print("| method | forward + backward | s / example | seeds: all tokens | seeds: below the cap | planted recall |")
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        cost = f"{row.passes.mean():.0f} | {row.seconds.mean():.3f}"
        print(f"| {name} | {cost} | {show(row.all_tokens)} | {show(row.below_cap)} | {show(row.recall)} |")


def main() -> None:
    """Reads the options, measures on one thread and prints one table per mini."""
    parser = argparse.ArgumentParser(description="Measures the presets of co-perturbation.")
    parser.add_argument("--mini", action="append", required=True, help="model, trained where it is not cached")
    parser.add_argument("--dataset", default="and_pair", help="data set with planted words")
    parser.add_argument("--preset", action="append", help="default all", choices=list(PRESETS))
    parser.add_argument("--examples", type=int, default=200, help="examples for the recall")
    parser.add_argument("--repeated", type=int, default=32, help="examples run under every seed")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    with train.one_thread():
        for mini in options.mini:
            start = time.perf_counter()
            counts = (options.examples, options.repeated, options.seeds)
            rows = measure(mini, options.dataset, counts, options.preset or list(PRESETS))
            sizes = (
                f"recall over {len(rows['random'].recall)} examples, seeds over {options.repeated} x {options.seeds}"
            )
            print(f"\n{mini} on {options.dataset}: {sizes}; {time.perf_counter() - start:.0f} s\n")
            report(rows)


if __name__ == "__main__":
    main()
