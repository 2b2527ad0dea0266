"""Compares co-perturbation with the procedure it descends from: cost, planted words found, repeatability.

The ancestor is the class ``Interpreter`` that goes with Guan et al. 2019, "Towards a Deep and Unified Understanding
of Deep Neural Models in NLP" (ICML), written here from its description (methods spec 1.1, 1.2, 1.6):

* one sentence at a time, no batches;
* ``sigma = scale * sigmoid(ratio)`` per token, ``ratio`` drawn from the standard normal distribution;
* per step one noise draw: ``mean over dimensions of (phi(e + sigma xi) - phi(e))^2 / regularisation^2 - rate * mean
  of ln sigma``, where ``regularisation`` is the standard deviation of the dimension over the calibration examples;
* Adam as it comes, learning rate 0.01, 5000 steps; what is returned is the iterate with the lowest single-draw loss.

The last iterate is kept as well: by the specification it is the better of the two. Where the description leaves
room, the ancestor gets the cheaper reading: ``phi(e)`` is computed once and not in every step, and the model's
weights need no gradient. Both sides explain the same representation (``readout``) of the same trained model, noise the
same tokens up to the same cap, and weigh the entropy alike (``rate`` and ``lam``).

Run by hand: ``python tests/perf/ancestor.py --mini gpt2-mini --dataset and_pair --examples 50 --steps 5000 --seeds 2``
(about ``examples * seeds * steps * 2`` ms). All sides explain one example after the other, in an order that is
reversed with every example, so that a machine that slows down slows down all of them.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import bootstrap, spearmanr
from torch import Tensor

from attrlab.bench import checkpoint, data, plan, train
from attrlab.bench.batch import Targets
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.seeds import digest, generator
from attrlab.bench.types import Bools, Case, Floats
from attrlab.methods.co_perturbation import CoPerturbation
from attrlab.metrics.planted import PlantedRecall

LAM, CAP = 0.1, 10.0
"""Weight of the entropy, and largest standard deviation in those of the word embeddings: CoPerturbation's defaults."""

PRESETS = ("fast", "default")
"""Presets of co-perturbation that are compared."""

LOWEST, FINAL = "ancestor, lowest loss", "ancestor, final"

Timed = tuple[float, list[Floats]]
"""Seconds, and the scores per token of every example explained in them."""


class Learned(NamedTuple):
    """Tolerated noise as the ancestor finds it.

    Attributes:
        lowest: (m,) sigma of the iterate with the lowest single-draw loss: what the ancestor returns.
        final: (m,) sigma after the last step.
        losses: (steps,) single-draw loss of every iterate, from the initial one to the last but one.
    """

    lowest: Tensor
    final: Tensor
    losses: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The ancestor's scale (cap), rate (weight of the entropy), number of steps and learning rate."""

    scale: float
    rate: float = LAM
    steps: int = 5000
    learning_rate: float = 0.01


def learn_noise(
    phi: Callable[[Tensor], Tensor], embeds: Tensor, variance: Tensor, settings: Settings, rng: torch.Generator
) -> Learned:
    """Returns the noise that each row of ``embeds`` tolerates, by the ancestor's procedure.

    Args:
        phi: Maps embeddings (m, d) to a representation (D,).
        embeds: (m, d) clean embeddings.
        variance: (D,) square of the regularisation.
        settings: The settings.
        rng: Draws the initial ratios and the noise.
    """
    with torch.no_grad():
        reference = phi(embeds)
    ratio = torch.randn((len(embeds), 1), generator=rng, dtype=embeds.dtype).requires_grad_()
    adam = torch.optim.Adam([ratio], lr=settings.learning_rate)
    losses: list[float] = []
    least, lowest = float("inf"), ratio.detach()
    for _ in range(settings.steps):
        sigma = settings.scale * ratio.sigmoid()
        noise = torch.randn(embeds.shape, generator=rng, dtype=embeds.dtype)
        damage = ((phi(embeds + sigma * noise) - reference).square() / variance).mean()
        loss = damage - settings.rate * sigma.log().mean()
        losses.append(loss.item())
        if losses[-1] < least:
            least, lowest = losses[-1], ratio.detach().clone()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    lowest, final = (settings.scale * iterate.sigmoid()[:, 0] for iterate in (lowest, ratio.detach()))
    return Learned(lowest, final, torch.tensor(losses, dtype=torch.float64))


def ancestor(model: TextModel, encoded: Encoded, variance: Tensor, settings: Settings, seed: int) -> Learned:
    """Returns the noise that the m scorable tokens of one sentence tolerate, in their order."""
    batch = model.collate([whole(encoded)])
    where = torch.from_numpy(np.flatnonzero(encoded.units >= 0))
    with torch.no_grad():
        clean = model.embed(batch)[0]

    def phi(rows: Tensor) -> Tensor:
        return model.forward(batch, clean.index_put((where,), rows)[None]).readout[0]

    return learn_noise(phi, clean[where], variance, settings, torch.Generator().manual_seed(seed))


def calibrated_variance(model: TextModel) -> Tensor:
    """Returns the variance of each dimension of the readout over the model's calibration examples, (D,)."""
    with torch.no_grad():
        read = [model.forward(model.collate([whole(encoded)])).readout[0] for encoded in model.calibration]
    return torch.stack(read).var(0, correction=0).clamp(min=1e-8)


def cap(model: TextModel) -> float:
    """Returns the largest standard deviation of noise."""
    return CAP * float(model.embedding.double().std())


def by_ancestor(model: TextModel, encoded: Encoded, variance: Tensor, settings: Settings, seed: int) -> Timed:
    """Returns the scores (minus twice ln sigma, as ours) of the lowest-loss and of the final iterate."""
    drawn = int(digest(["ancestor", seed, encoded.example.id], 7), 16)
    start = time.perf_counter()
    found = ancestor(model, encoded, variance, settings, drawn)
    seconds = time.perf_counter() - start
    return seconds, [(-2 * sigma.double().log()).numpy() for sigma in (found.lowest, found.final)]


def by_us(model: TextModel, encoded: Sequence[Encoded], preset: str, seed: int) -> Timed:
    """Returns the scores of the scorable tokens of every example, explained in one batch."""
    rngs = [generator("co_perturbation", seed, one.example.id) for one in encoded]
    start = time.perf_counter()
    length = -(-max(len(one.ids) for one in encoded) // 8) * 8
    batch = model.collate([whole(one) for one in encoded], [one.units >= 0 for one in encoded], length)
    no_target = Targets(classes=torch.zeros(len(encoded), dtype=torch.int64))  # what is explained is no class
    scores = CoPerturbation(lam=LAM, cap=CAP, preset=preset).attribute(model, batch, no_target, rngs).scores
    seconds = time.perf_counter() - start
    rows = scores.double().numpy()
    return seconds, [row[: len(one.ids)][one.units >= 0] for row, one in zip(rows, encoded, strict=True)]


class Record:
    """Seconds and scores of every side, by example and seed.

    Args:
        model: The explained model.
        encoded: The examples.
        seeds: Number of seeds.
    """

    def __init__(self, model: TextModel, encoded: Sequence[Encoded], seeds: int) -> None:
        self.model, self.encoded = model, encoded
        self._shape = (len(encoded), seeds)
        self.seconds: dict[str, Floats] = {}
        self._scores: dict[str, dict[tuple[int, int], Floats]] = {}

    def add(self, side: str, example: int, seed: int, seconds: float, tokens: Floats) -> None:
        """Stores what a side found; a word has the score of its last token for decoders, of its first for encoders."""
        units = self.encoded[example].units
        units = units[units >= 0]
        edge = -1 if self.model.decoder else 0
        words = [tokens[np.flatnonzero(units == unit)[edge]] for unit in range(self.encoded[example].n_units)]
        self.seconds.setdefault(side, np.full(self._shape, np.nan))[example, seed] = seconds
        self._scores.setdefault(side, {})[example, seed] = np.array(words)

    def per_seed(self, side: str, example: int) -> list[Floats]:
        """Returns the scores per word under every seed."""
        return [self._scores[side][example, seed] for seed in range(self._shape[1])]

    def recall(self, side: str) -> Floats:
        """Returns the planted recall of every example, averaged over seeds."""
        return np.array(
            [
                statistics.fmean(recall(one, scores) for scores in self.per_seed(side, index))
                for index, one in enumerate(self.encoded)
            ]
        )

    def repeatability(self, side: str) -> Floats:
        """Returns the mean rank correlation between seeds of every example; NaN where one seed ranks nothing."""
        return np.array(
            [
                np.mean([spearmanr(*pair).statistic for pair in combinations(self.per_seed(side, index), 2)])
                for index in range(self._shape[0])
            ]
        )


def planted(encoded: Encoded) -> Bools:
    """Returns which words decide the label."""
    assert encoded.example.rationales is not None
    return encoded.rationale(encoded.example.rationales[0])


def recall(encoded: Encoded, scores: Floats) -> float:
    """Returns the planted recall of scores per word, for an example that the model predicts right."""
    label = encoded.example.label
    assert label is not None
    orders = np.array([generator("ties", encoded.example.id, i).permutation(len(scores)) for i in range(10)])
    case = Case(
        scores=scores, signed=False, target=label, label=label, tie_orders=orders, rationales=planted(encoded)[None]
    )
    return PlantedRecall().score(case).value


def prepare(mini: str, dataset: str, count: int) -> tuple[TextModel, list[Encoded]]:
    """Returns the mini trained on the data set, calibrated, and examples with planted words that it predicts right.

    Sorted by length, so that neighbours make good batches.
    """
    test = data.load(dataset)
    learn = plan.training_part(test, None)
    if learn is None:
        raise UserError(f"data set {dataset!r} has no training part; use an embedded one")
    model = checkpoint.load(train.mini(mini, learn, test))
    model.calibration = [model.encode(example) for example in learn.take(plan.CALIBRATION)]
    chosen: list[Encoded] = []
    for example in test.take():
        encoded = model.encode(example)
        if len(chosen) < count and planted(encoded).any():
            with torch.no_grad():
                logits = model.forward(model.collate([whole(encoded)])).logits
            if int(logits.argmax()) == example.label:
                chosen.append(encoded)
    return model, sorted(chosen, key=lambda one: len(one.ids))


def compare(model: TextModel, encoded: Sequence[Encoded], settings: Settings, seeds: int, batch: int) -> Record:
    """Returns what all sides need and find: example by example in alternating order, ours also in batches."""
    record = Record(model, encoded, seeds)
    variance = calibrated_variance(model)
    by_us(model, encoded[:1], "fast", 0)  # computes what every later call shares

    def learn(index: int, seed: int) -> None:
        seconds, (lowest, final) = by_ancestor(model, encoded[index], variance, settings, seed)
        record.add(LOWEST, index, seed, seconds, lowest)
        record.add(FINAL, index, seed, seconds, final)

    def ours(preset: str, members: range, seed: int, how: str) -> None:
        part = encoded[members.start : members.stop]
        seconds, found = by_us(model, part, preset, seed)
        tokens = sum(len(one.ids) for one in part)
        for index, one, scores in zip(members, part, found, strict=True):
            record.add(f"ours, {preset}, {how}", index, seed, seconds * len(one.ids) / tokens, scores)

    for start in range(0, len(encoded), batch):
        members = range(start, min(start + batch, len(encoded)))
        for index, seed in product(members, range(seeds)):
            for side in ["ancestor", *PRESETS][:: -1 if index % 2 else 1]:
                if side == "ancestor":
                    learn(index, seed)
                else:
                    ours(side, range(index, index + 1), seed, "one at a time")
        for seed, preset in product(range(seeds), PRESETS):
            ours(preset, members, seed, "batched")
        print(f"{members.stop} of {len(encoded)} examples", file=sys.stderr, flush=True)
    return record


def interval(statistic: Callable[..., Floats], *samples: Floats) -> str:
    """Returns a statistic of paired samples, one value per example, with its 95 % bootstrap interval."""
    value = float(statistic(*samples, axis=-1))
    if len(samples[0]) < 2:
        return f"{value:.2f}"
    low, high = bootstrap(
        samples, statistic, paired=True, vectorized=True, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def ratio_of_means(first: Floats, second: Floats, axis: int = -1) -> Floats:
    """Returns the ratio of two means."""
    return np.asarray(first.mean(axis) / second.mean(axis))


def report(record: Record) -> None:
    """Prints the table: one line per side."""
    widths = (30, 11, 23, 20, 18)
    heads = ("side", "s/example", "times faster", "planted recall", "Spearman of seeds")
    print("".join(f"{head:<{width}}" for head, width in zip(heads, widths, strict=True)))
    theirs = record.seconds[LOWEST].mean(1)
    for side in record.seconds:
        seconds = record.seconds[side].mean(1)
        cells = (
            side,
            f"{seconds.mean():.3f}",
            interval(ratio_of_means, theirs, seconds),
            interval(np.mean, record.recall(side)),
            interval(np.mean, record.repeatability(side)),
        )
        print("".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)))


def main() -> None:
    """Reads the options, runs the comparison on one thread and prints the table."""
    parser = argparse.ArgumentParser(description="Compares co-perturbation with the procedure it descends from.")
    parser.add_argument("--mini", default="gpt2-mini", help="model, trained on the data set where it is not cached")
    parser.add_argument("--dataset", default="and_pair", help="data set with planted words")
    for name, default, what in (
        ("examples", 50, "examples that the model predicts right"),
        ("steps", 5000, "the ancestor's steps"),
        ("seeds", 2, "runs per example, at least 2"),
        ("batch", 32, "examples per batch of co-perturbation"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} (default {default})")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds {options.seeds}; repeatability needs at least 2")
    with train.one_thread():
        model, encoded = prepare(options.mini, options.dataset, options.examples)
        settings = Settings(scale=cap(model), steps=options.steps)
        record = compare(model, encoded, settings, options.seeds, options.batch)
    chance = statistics.fmean(planted(one).mean() for one in encoded)
    print(f"{options.mini} on {options.dataset}: {len(encoded)} examples, {options.seeds} seeds")
    print(f"ancestor: {options.steps} steps; recall by chance: {chance:.2f}; intervals: 95 %, bootstrap over examples")
    report(record)


if __name__ == "__main__":
    main()
