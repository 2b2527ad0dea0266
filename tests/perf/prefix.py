"""What it saves to compute shared beginnings once: questions about long texts, with and without, on one thread.

    python tests/perf/prefix.py --model gpt2 --model opt-125m --texts 2 --alternations 5

asks models of the published geometry, weights random, about texts of random words, token by token: leave one out, a
deletion curve of one token a step in random order, and random subsets, which hardly begin alike. The two sides take
turns. The table holds medians of CPU seconds, which other jobs on the machine disturb less than the clock, the ratio
with the lowest and highest of its alternations, and the largest difference between the answers of the two sides.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from attrlab.bench import train
from attrlab.bench.engine import Engine, Job
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.model import TextModel
from attrlab.bench.shortcuts import Shortcuts
from attrlab.bench.testing import TEXTS
from attrlab.bench.types import Ask, Bools, Floats
from attrlab.bench.zoo import BY_MINI, ZOO

sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))

import full_geometry


def leave_one_out(units: int, _rng: np.random.Generator) -> Bools:
    """Returns masks that leave one unit out each, ``(units, units)``."""
    return ~np.eye(units, dtype=bool)


def deletion_curve(units: int, rng: np.random.Generator) -> Bools:
    """Returns masks that leave out one unit more at every step, in random order, ``(units, units)``."""
    place = rng.permutation(units)
    return np.arange(units)[:, None] < place


def random_subsets(units: int, rng: np.random.Generator) -> Bools:
    """Returns masks that keep every unit with probability one half, ``(units, units)``."""
    return rng.random((units, units)) < 0.5


KINDS: tuple[Callable[[int, np.random.Generator], Bools], ...] = (leave_one_out, deletion_curve, random_subsets)


def text(model: TextModel, length: int, seed: int) -> Encoded:
    """Returns a text of random words of at most ``length`` tokens, one unit per token."""
    rng, vocabulary = np.random.default_rng(seed), " ".join(TEXTS).split()
    words = rng.choice(vocabulary, length)

    def encoded(count: int) -> Encoded:
        return model.encode(Example(id=str(seed), texts=(" ".join(words[:count]),), label=0), "token")

    counts = range(1, length)
    lengths = [len(model.tokenizer(" ".join(words[:count]), verbose=False)["input_ids"]) for count in counts]
    return encoded(max(count for count, tokens in zip(counts, lengths, strict=True) if tokens <= length))


def asker(keep: Bools) -> Generator[Ask, Floats, Floats]:
    """Asks once and returns the answers."""
    return (yield Ask(keep=keep))


def timed(model: TextModel, encoded: Sequence[Encoded], keeps: Sequence[Bools], *, reuse: bool) -> tuple[float, Floats]:
    """Returns the CPU seconds that the engine takes, and the answers."""
    engine = Engine(model, encoded, shortcuts=Shortcuts(prefix=reuse))
    jobs = [Job(slot=slot, asker=asker(keep), operator="replace") for slot, keep in enumerate(keeps)]
    start = time.process_time()
    engine.run(jobs)
    seconds = time.process_time() - start
    return seconds, np.concatenate([job.result for job in jobs])


def compare(model: TextModel, encoded: Sequence[Encoded], alternations: int) -> None:
    """Prints one line per kind of question."""
    for kind in KINDS:
        keeps = [kind(one.n_units, np.random.default_rng(slot)) for slot, one in enumerate(encoded)]
        seconds: dict[bool, list[float]] = {False: [], True: []}
        answers: dict[bool, Floats] = {}
        for turn in range(alternations):
            for reuse in (False, True)[:: -1 if turn % 2 else 1]:
                taken, answers[reuse] = timed(model, encoded, keeps, reuse=reuse)
                seconds[reuse].append(taken)
        plain, reused = (statistics.median(seconds[side]) for side in (False, True))
        ratios = [one / other for one, other in zip(seconds[False], seconds[True], strict=True)]
        print(
            f"{model.name:<16}{kind.__name__:<18}{sum(map(len, keeps)):<8}{plain:<12.2f}{reused:<12.2f}"
            f"{plain / reused:.2f} [{min(ratios):.2f}, {max(ratios):.2f}]    "
            f"{np.abs(answers[True] - answers[False]).max():.1e}",
            flush=True,
        )


def main() -> None:
    """Reads the options and prints the table."""
    parser = argparse.ArgumentParser(description="Compares answering with and without reuse of shared beginnings.")
    parser.add_argument("--model", action="append", help="short names of the zoo, full size or mini; default both 12s")
    for name, default, what in (
        ("length", 128, "tokens per text"),
        ("texts", 2, "texts"),
        ("alternations", 5, "runs of each side"),
        ("layers", 0, "layers to build; 0: as many as published"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} (default {default})")
    options = parser.parse_args()
    known = {info.name: info for info in ZOO} | BY_MINI
    print("model           questions         rows    plain, s    reused, s   times faster         difference")
    with train.one_thread():
        for name in options.model or ("gpt2", "opt-125m"):
            info = known[name]
            if name in BY_MINI:
                geometry = info.mini_geometry()
                info = replace(info, **geometry)
            info = replace(info, layers=options.layers or info.layers)
            model = full_geometry.model(info, "cpu", torch.float32)
            model.name = name
            compare(model, [text(model, options.length, seed) for seed in range(options.texts)], options.alternations)


if __name__ == "__main__":
    main()
