"""How cost grows with examples, text length, model size and workers, and how much of it is spent outside the model.

    python tests/perf/growth.py OUT --model FOLDER --data-dir DIR --threads 2

``FOLDER`` holds a classifier fine-tuned on SST-2, ``DIR`` the data sets. Prints one table per part and writes them to
``OUT/growth.md``; ``--part`` chooses parts. Sizes of one part take turns, in an order that is reversed with every
alternation, and figures are medians, so that a machine that slows down slows down all of them.

* ``examples``: one run of 16 to 256 sentences. All sizes hold the same 16 sentences, word order shuffled in copies, so
  that they ask questions of the same lengths. The exponent p is that of a + b n^p, fitted to seconds; a is the time to
  start, load and render. Memory is that of the process.
* ``length``: questions of 16 to 512 tokens to the geometry of BERT base, weights random; as many tokens at each length.
* ``models``: questions of 64 tokens to the nine geometries, weights random.
* ``workers``: one run of a mini, with one worker and with two.
* ``overhead``: one run in this process, with the time that passes inside forward and backward passes, and where the
  rest goes.

Useful work is 2 x weights x tokens + 4 x layers x width x squared lengths; its rate is compared with that of matrix
products in the same turn.
"""

import argparse
import cProfile
import io
import os
import pstats
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from matmul import rate
from scipy.optimize import curve_fit

from attrlab.bench import command, data, session, suite
from attrlab.bench.engine import Engine, Job
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.testing import TEXTS
from attrlab.bench.types import Ask, Asker, Floats
from attrlab.bench.zoo import ZOO, ModelInfo

sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))

import full_geometry

BASE, FACTORS = 16, (1, 2, 4, 8, 16)
"""Sentences of the smallest run, and how many times as many the others have."""

WORDS = 8
"""Least words of a sentence of which copies are made."""

LENGTHS = (16, 32, 64, 128, 256, 512)
TOKENS = 8192
"""Tokens of all questions of one length, or to one model."""

METHODS = ("lime:samples=25", "leave_one_out", "saliency")
METRICS = ("comprehensiveness", "sufficiency", "deletion_auc")


class Process(NamedTuple):
    """What a process took: seconds by the clock, and its highest memory in bytes."""

    seconds: float
    memory: int


def attrlab(*arguments: object, threads: int) -> Process:
    """Runs attrlab in a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "attrlab"), *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"attrlab {' '.join(map(str, arguments))} failed")
    return Process(time.perf_counter() - start, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def options_of_run(methods: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Returns methods and metrics as options."""
    chosen = [*(("--method", name) for name in methods), *(("--metric", name) for name in metrics)]
    return [word for pair in chosen for word in pair]


def alternated(sizes: Sequence[Any], measure: Callable[[Any, int], Any], turns: int) -> dict[Any, list[Any]]:
    """Returns what is measured of each size in each turn."""
    found: dict[Any, list[Any]] = {size: [] for size in sizes}
    for turn in range(turns):
        for size in sizes[:: -1 if turn % 2 else 1]:
            found[size].append(measure(size, turn))
    return found


def copies(options: argparse.Namespace) -> Path:
    """Writes a data folder whose SST-2 holds sentences over and over, words in another order each time."""
    known = [example.texts[0].split() for example in data.load("sst2:dev", data_dir=options.data_dir).take()]
    known, rng = [words for words in known if len(words) >= WORDS][:BASE], np.random.default_rng(0)
    lines = [
        f"{' '.join(words if not copy else rng.permutation(words))}\t{row % 2}"
        for copy in range(FACTORS[-1])
        for row, words in enumerate(known)
    ]
    folder: Path = options.out / "data"
    for factor in FACTORS:
        file = folder / str(factor) / "sst2" / "dev.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(["sentence\tlabel", *lines[: BASE * factor]]) + "\n", "utf-8")
    return folder


def examples(options: argparse.Namespace) -> Iterator[str]:
    """Runs of more and more sentences."""
    folder = copies(options)

    def measure(factor: int, turn: int) -> Process:
        arguments = ["--model", options.model, "--dataset", "sst2:dev", "--data-dir", folder / str(factor)]
        out = options.out / f"examples-{factor}-{turn}"
        chosen = options_of_run(METHODS, METRICS)
        return attrlab("run", "adhoc", *arguments, *chosen, "--out", out, threads=options.threads)

    found = alternated(FACTORS, measure, options.alternations)
    yield from ("| examples | seconds | MiB |", "|---:|---:|---:|")
    for factor, runs in found.items():
        memory = median(run.memory for run in runs) / 2**20
        yield f"| {BASE * factor} | {median(run.seconds for run in runs):.1f} | {memory:.0f} |"
    seconds = np.array([median(run.seconds for run in runs) for runs in found.values()])
    start, per_example, power = fitted(np.array(FACTORS) * BASE, seconds)
    yield f"\nexponent {power:.3f}; {start:.1f} s to start, {per_example:.3f} s for the first sentence"


def fitted(sizes: Floats, seconds: Floats) -> Floats:
    """Returns a, b and p of seconds = a + b sizes^p, by least squares of relative errors."""
    first = (seconds[0] / 2, seconds[-1] / sizes[-1], 1.0)
    found: Floats = curve_fit(lambda n, a, b, p: a + b * n**p, sizes, seconds, first, sigma=seconds)[0]
    return found


class Asked(NamedTuple):
    """Seconds of answering questions, and useful operations a second over the rate of matrix products."""

    seconds: float
    used: float


def asked(model: TextModel, info: ModelInfo, length: int) -> Asked:
    """Asks a model different questions about one text of so many tokens."""
    rng, model.max_length = np.random.default_rng(0), length  # longer texts are cut
    text = " ".join(rng.choice(" ".join(TEXTS).split(), length))
    coded = model.encode(Example(id="0", texts=(text,), label=0), "token")
    keep = rng.random((TOKENS // length, coded.n_units)) < 0.5

    def asker() -> Asker[None]:
        yield Ask(keep=keep)

    job, engine = Job(slot=0, asker=asker(), operator="replace"), Engine(model, [coded])
    best, start = rate(torch.float32), time.perf_counter()
    engine.run([job])
    seconds = time.perf_counter() - start
    per_row = 24 * info.layers * info.width**2 * length + 4 * info.layers * info.width * length**2
    return Asked(seconds / job.unique, job.unique * per_row / seconds / best)


def built(info: ModelInfo) -> TextModel:
    """Returns a model of the published geometry, weights random."""
    return full_geometry.model(info, "cpu", torch.float32)


def shown(found: dict[Any, list[Asked]]) -> Iterator[str]:
    """Yields a row per size: seconds a question and share of the rate."""
    for size, turns in found.items():
        yield f"| {size} | {median(turn.seconds for turn in turns):.4f} | {median(turn.used for turn in turns):.2f} |"


def length(options: argparse.Namespace) -> Iterator[str]:
    """Questions about longer and longer texts."""
    info = ZOO[0]
    model = built(info)
    found = alternated(LENGTHS, lambda size, _turn: asked(model, info, size), options.alternations)
    yield from (f"| tokens, {info.name} | s / question | of the rate |", "|---:|---:|---:|")
    yield from shown(found)


def models(options: argparse.Namespace) -> Iterator[str]:
    """The same questions to larger and larger models, one in memory at a time."""
    yield from ("| model | s / question | of the rate |", "|---|---:|---:|")
    for info in sorted(ZOO, key=lambda info: info.parameters):
        model = built(info)
        turns = [asked(model, info, 64) for _ in range(options.alternations)]
        yield from shown({f"{info.name}, {info.parameters / 1e6:.0f} M": turns})
        del model


def workers(options: argparse.Namespace) -> Iterator[str]:
    """A run of a mini by one worker and by two."""

    def measure(count: int, turn: int) -> Process:
        arguments = ["--model", "bert-base-mini", "--dataset", "lexicon", "--limit", 512, "--workers", count]
        chosen = options_of_run((*METHODS, "shapley_sampling:permutations=25"), METRICS)
        return attrlab("run", "adhoc", *arguments, *chosen, "--out", options.out / f"workers-{count}-{turn}", threads=1)

    found = alternated((1, 2), measure, options.alternations)
    yield from ("| workers | seconds |", "|---:|---:|")
    yield from (f"| {count} | {median(run.seconds for run in runs):.1f} |" for count, runs in found.items())
    ratios = [one.seconds / two.seconds for one, two in zip(found[1], found[2], strict=True)]
    yield f"\ntwo workers are {median(ratios):.2f} times as fast ({min(ratios):.2f}-{max(ratios):.2f})"


@contextmanager
def inside() -> Iterator[list[float]]:
    """Collects the seconds of every forward and backward pass."""
    found: list[float] = []

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                found.append(time.perf_counter() - start)

        return run

    before = TextModel.forward, torch.autograd.grad
    TextModel.forward, torch.autograd.grad = timed(before[0]), timed(before[1])  # type: ignore[method-assign]
    try:
        yield found
    finally:
        TextModel.forward, torch.autograd.grad = before  # type: ignore[method-assign]


def overhead(options: argparse.Namespace) -> Iterator[str]:
    """A run in this process, and what of it is spent outside the model."""
    folder = copies(options) / str(FACTORS[-1])
    chosen = suite.override(
        suite.load("adhoc"),
        methods=METHODS,
        metrics=METRICS,
        models=[str(options.model)],
        datasets=["sst2:dev"],
        limit=BASE * FACTORS[2],
    )
    shares = []
    for turn in range(options.alternations):
        start = time.perf_counter()
        with inside() as passes, redirect_stdout(None):
            command.run(chosen, options.out / f"overhead-{turn}", folder, session.Options(workers=1))
        seconds = time.perf_counter() - start
        shares.append(1 - sum(passes) / seconds)
        yield f"{seconds:.1f} s, of them {sum(passes):.1f} in {len(passes)} passes; outside: {shares[-1]:.1%}"
    yield f"\noutside forward and backward passes: {median(shares):.1%}; where (a run under cProfile):\n\n```"
    with cProfile.Profile() as profile, redirect_stdout(None):
        command.run(chosen, options.out / "overhead-profiled", folder, session.Options(workers=1))
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(str(Path(command.__file__).parents[1]), 12)
    yield text.getvalue().partition("ncalls")[2] + "```"


PARTS: tuple[Callable[[argparse.Namespace], Iterable[str]], ...] = (examples, length, models, workers, overhead)


def main() -> None:
    """Reads the options, measures, prints and writes the tables."""
    parser = argparse.ArgumentParser(description="How cost grows.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="folder of a classifier fine-tuned on SST-2")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--alternations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", action="append", choices=[part.__name__ for part in PARTS], help="default all")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    torch.set_num_threads(options.threads)
    with (options.out / "growth.md").open("w", encoding="utf-8") as file:
        for part in PARTS:
            if not options.part or part.__name__ in options.part:
                for line in chain([f"## {part.__name__}\n"], part(options), [""]):
                    print(line, flush=True)
                    print(line, file=file, flush=True)


if __name__ == "__main__":
    main()
