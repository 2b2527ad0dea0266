"""How far every estimator of Shapley values is from the exact ones, by the number of questions it may ask.

    python tests/perf/shapley_error.py --mini bert-base-mini --mini gpt2-mini --dataset lexicon --games 12 --seeds 5

prints the median and the quartiles of the relative error ``|a - exact| / |exact|`` (Euclidean) over games and seeds. A
game is a sentence of 11 or 12 words, all of whose coalitions are asked of a trained mini once; the estimators then
look their answers up. Texts that short keep exact values within reach, and are long enough that 1,024 questions do not
cover all coalitions. SHAP's Owen values and LIME's coefficients are other quantities: their error does not end at 0.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from ancestor import prepare

from attrlab.bench import train
from attrlab.bench.engine import Engine, Job
from attrlab.bench.types import Ask, Asker, Estimate, Floats, Game, drive
from attrlab.methods._callback import ask_through
from attrlab.methods.exact_shapley import ExactShapley
from attrlab.methods.kernel_shap import KernelShap
from attrlab.methods.lime import Lime
from attrlab.methods.shapley import Shap, ShapleySampling, order_gains

BUDGETS = (64, 256, 1024)
UNITS = (11, 12)


class SingleOrders:
    """Shapley values averaged over random orders, none of them reversed."""

    def __init__(self, orders: int) -> None:
        self.orders = orders

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``; asks ``1 + orders * m`` questions."""
        places = rng.permuted(np.tile(np.arange(game.n_units), (self.orders, 1)), axis=1)
        gains = yield from ask_through(partial(order_gains, places), game, rng)
        return np.asarray(gains.mean(axis=0))


ESTIMATORS: dict[str, Callable[[int, int], Any]] = {
    "orders, single": lambda budget, units: SingleOrders((budget - 1) // units),
    "orders with reverse (shapley_sampling)": lambda budget, units: ShapleySampling((budget - 1) // (2 * units)),
    "kernel_shap, plain": lambda budget, units: KernelShap(samples=budget, sampling="plain"),
    "kernel_shap, paired": lambda budget, units: KernelShap(samples=budget, sampling="paired"),
    "kernel_shap, leverage": lambda budget, units: KernelShap(samples=budget, sampling="leverage"),
    "shap (Owen values)": lambda budget, units: Shap(evals=budget),
    "lime": lambda budget, units: Lime(samples=budget),
}


class Recorded:
    """A game all of whose answers are known; bit j of a coalition's index is unit j."""

    def __init__(self, units: int, answers: Floats) -> None:
        self.units = units
        self.answers = answers

    def __call__(self, ask: Ask) -> Floats:
        return np.asarray(self.answers[ask.keep @ (1 << np.arange(self.units))])

    def explain(self, method: Any, seed: int) -> Floats:
        """Returns the scores of a method, ``(m,)``."""
        found = drive(method.ask(Game(n_units=self.units, target=1), np.random.default_rng(seed)), self)
        return found.scores if isinstance(found, Estimate) else np.asarray(found)


def everything(units: int) -> Asker[Floats]:
    """Asks for the logits of every coalition, ``(2**m, n_classes)``."""
    logits = yield Ask(keep=(np.arange(2**units)[:, None] >> np.arange(units) & 1).astype(bool))
    return logits


def games(mini: str, dataset: str, count: int) -> list[Recorded]:
    """Returns games of the first sentences of a fitting length that the trained mini predicts right."""
    model, encoded = prepare(mini, dataset, 100 * count)
    chosen = [one for one in encoded if one.n_units in UNITS][:count]
    engine = Engine(model, chosen)
    jobs = [Job(slot=slot, asker=everything(one.n_units), operator="replace") for slot, one in enumerate(chosen)]
    engine.run(jobs)
    return [Recorded(one.n_units, job.result) for one, job in zip(chosen, jobs, strict=True)]


def errors(name: str, budget: int, played: Sequence[Recorded], seeds: int) -> Floats:
    """Returns the relative error of an estimator for every game and seed."""
    found = []
    for game in played:
        exact = game.explain(ExactShapley(largest=max(UNITS)), 0)
        method = ESTIMATORS[name](budget, game.units)
        gaps = [np.linalg.norm(game.explain(method, seed) - exact) for seed in range(seeds)]
        found += [gap / np.linalg.norm(exact) for gap in gaps]
    return np.array(found)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mini", action="append")
    parser.add_argument("--dataset", default="lexicon")
    parser.add_argument("--games", type=int, default=12, help="per mini")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    minis = given.mini or ["bert-base-mini", "gpt2-mini"]
    with train.one_thread():
        played = [game for mini in minis for game in games(mini, given.dataset, given.games)]
        print(f"{len(played)} games x {given.seeds} seeds; relative error: median (quartiles)")
        print(f"{'questions':40}" + "".join(f"{budget:>22,}" for budget in BUDGETS))
        for name in ESTIMATORS:
            cells = []
            for budget in BUDGETS:
                low, middle, high = np.quantile(errors(name, budget, played, given.seeds), [0.25, 0.5, 0.75])
                cells.append(f"{middle:.3f} ({low:.3f}-{high:.3f})")
            print(f"{name:40}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
