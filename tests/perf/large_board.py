"""How long a large board takes, step by step, and how much memory: 50 methods x 30 metrics x 9 models x 10 data sets.

Run by hand: ``python tests/perf/large_board.py make FOLDER`` writes a results folder of drawn numbers, once (27 million
scores by default, some 1.8 million files and 9 GiB; ``--datasets 1`` makes a tenth), then
``python tests/perf/large_board.py time FOLDER`` prints a Markdown table. Everything that is timed together runs in one
fresh process; its peak of memory is what the operating system counts.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attrlab.bench.store import Store, key_of, write_json

FAMILIES = ("faithfulness", "agreement", "plausibility", "stability", "cost")
"""Families of the drawn metrics, in turn."""

WORDS = 20
"""Words of every example."""

GAPS = 0.05
"""Share of examples that a gappy column has no value of; every fourth column is one."""


class Maker:
    """Draws a results folder in the stored format.

    Args:
        folder: Where to.
        options: Numbers of methods, metrics, models, data sets and examples, and examples per chunk.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.store, self.options = Store(folder), options
        self.rng = np.random.default_rng(0)
        self.methods = ["random", *(f"method_{i}" for i in range(1, options.methods))]
        self.metrics = [f"metric_{i}" for i in range(options.metrics)]

    def make(self) -> None:
        """Writes all chunks, then ``run.json``."""
        cells = [
            cell
            for dataset in range(self.options.datasets)
            for model in range(self.options.models)
            for cell in self._block(f"model_{model}", f"data_{dataset}:test")
        ]
        write_json(self.store.folder / "run.json", {**self._facts(), "cells": cells})

    def _facts(self) -> dict[str, Any]:
        n = self.options.examples
        datasets = [f"data_{i}:test" for i in range(self.options.datasets)]
        return {
            "schema": 1,
            "suite": {"name": "large", "title": "A large board", "limit": n, "explain": {"target": "predicted"}},
            "provenance": {"attrlab": "0", "started": "2026-01-01T00:00:00+00:00"},
            "methods": [
                {"name": name, "id": name, "family": "removal", "summary": "Drawn numbers"} for name in self.methods
            ],
            "metrics": [
                {
                    "name": name,
                    "id": name,
                    "family": FAMILIES[i % len(FAMILIES)],
                    "summary": "Drawn numbers",
                    "higher_is_better": i % 2 == 0,
                    "comparable": "methods on one model",
                }
                for i, name in enumerate(self.metrics)
            ],
            "columns": [{"metric": name, "operator": None, "unit": "word"} for name in self.metrics],
            "models": [
                {"name": f"model_{i}", "id": f"model_{i}", "dataset": dataset}
                for dataset in datasets
                for i in range(self.options.models)
            ],
            "datasets": [{"name": name, "labels": ["no", "yes"], "n_total": n, "n_used": n} for name in datasets],
        }

    def _block(self, model: str, dataset: str) -> Iterator[dict[str, Any]]:
        examples = [f"{dataset}-{i}" for i in range(self.options.examples)]
        predictions = self._chunks("predictions", [model, dataset], [self._prediction(one) for one in examples])
        for index, method in enumerate(self.methods):
            rows = [self._attribution(one) for one in examples]
            yield {
                "model": model,
                "dataset": dataset,
                "method": method,
                "reason": None,
                "predictions": predictions,
                "attributions": self._chunks("attributions", [model, dataset, method], rows),
                "scores": [
                    {"reason": None, "keys": self._scores([model, dataset, method, metric], examples, index, place)}
                    for place, metric in enumerate(self.metrics)
                ],
            }
        print(f"{dataset}, {model}", file=sys.stderr, flush=True)

    def _prediction(self, example: str) -> dict[str, Any]:
        number = int(example.rsplit("-", 1)[1])
        return {
            "example": example,
            "status": "ok",
            "reason": None,
            "tokens": WORDS + 2,
            "dropped": 0,
            "words": [f"word{i}" for i in range(WORDS)],
            "texts": [0] * WORDS,
            "target": number % 2,
            "label": int(number % 7 < 3),
            "probability": 0.9,
            "correct": (number % 2) == (number % 7 < 3),
            "rationale": None,
        }

    def _attribution(self, example: str) -> dict[str, Any]:
        return {
            "example": example,
            "status": "ok",
            "reason": None,
            "scores": self.rng.normal(size=WORDS).tolist(),
            "standard_errors": None,
            "seconds": 0.1,
            "forwards": 200,
            "backwards": 0,
            "unique_forwards": 200,
            "peak_memory": 10**9,
            "stats": {},
        }

    def _scores(self, names: list[str], examples: list[str], method: int, place: int) -> list[str]:
        values = self.rng.normal(0.02 * method, 1.0, len(examples))
        gaps = self.rng.random(len(examples)) < (GAPS if place % 4 == 3 else 0)
        rows = [
            {"example": one, "value": None if gap else value, "reason": "only one word" if gap else None}
            for one, value, gap in zip(examples, values.tolist(), gaps.tolist(), strict=True)
        ]
        return self._chunks("scores", names, rows)

    def _chunks(self, kind: Any, names: list[str], rows: list[dict[str, Any]]) -> list[str]:
        keys = []
        for start in range(0, len(rows), self.options.chunk):
            of = {"kind": kind, "names": names, "start": start}
            keys.append(key_of(of))
            self.store.write(kind, keys[-1], of, rows[start : start + self.options.chunk])
        return keys


def _overview(folder: Path) -> Iterator[str]:
    from attrlab.leaderboard.formats import render
    from attrlab.leaderboard.load import read
    from attrlab.leaderboard.statistics import aggregate

    board = read(folder)
    yield "load"
    aggregate(board)
    yield "aggregate"
    render(board, "html")
    yield "page"


def _pairwise(folder: Path) -> Iterator[str]:
    from attrlab.leaderboard.groups import contests
    from attrlab.leaderboard.load import read

    board = read(folder, "model_0", "data_0:test")
    yield "load one model on one data set"
    contests(board)
    yield "pairwise tests of one model on one data set"


def _detail(folder: Path) -> Iterator[str]:
    from attrlab.leaderboard.formats import render
    from attrlab.leaderboard.load import read

    board = read(folder, "model_0", "data_0:test")
    yield "load one model on one data set"
    render(board, "html")
    yield "its page: means, ranks, strata, examples"


def _example(folder: Path) -> Iterator[str]:
    from attrlab.leaderboard.heatmap import heatmaps
    from attrlab.leaderboard.load import read

    board = read(folder, "model_0", "data_0:test")
    yield "load one model on one data set"
    heatmaps(board, board.datasets[0], board.models[0], board.cells)
    yield "its examples, word by word"


def _packing(folder: Path) -> Iterator[str]:
    from attrlab.leaderboard.load import pack

    pack(folder)
    yield "load chunks, write columns"


STEPS: dict[str, Callable[[Path], Iterator[str]]] = {
    "pack": _packing,
    "overview": _overview,
    "pairwise": _pairwise,
    "example": _example,
    "detail": _detail,
}
"""What can be timed; the parts of each run in one process."""


def step(name: str, folder: Path) -> None:
    """Runs one step in this process and prints its parts with their seconds, CPU seconds and peak GiB, as JSON."""
    parts, wall, cpu = [], time.perf_counter(), time.process_time()
    for part in STEPS[name](folder):
        now, used = time.perf_counter(), time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        parts.append((part, now - wall, used - cpu, peak))
        wall, cpu = now, used
    print(json.dumps(parts))


def measure(folder: Path, names: list[str]) -> None:
    """Runs steps, each in a fresh process, and prints them as a Markdown table."""
    print("| step | part | seconds | CPU seconds | peak GiB |\n|---|---|---:|---:|---:|")
    for name in names:
        command = [sys.executable, __file__, "step", str(folder), "--steps", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        for part, wall, cpu, peak in json.loads(done.stdout):
            print(f"| {name} | {part} | {wall:.1f} | {cpu:.1f} | {peak:.2f} |", flush=True)


def main() -> None:
    """Reads the options and does what they say."""
    parser = argparse.ArgumentParser(description="Times the tables and the page of a large board.")
    parser.add_argument("what", choices=("make", "time", "step"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="what to time; default all")
    for name, default in (("methods", 50), ("metrics", 30), ("models", 9), ("datasets", 10), ("examples", 200)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"of the folder to make (default {default})")
    parser.add_argument("--chunk", type=int, default=16, help="examples per file (default 16, as of `attrlab run`)")
    options = parser.parse_args()
    if options.what == "make":
        Maker(options.folder, options).make()
    elif options.what == "time":
        measure(options.folder, options.steps)
    else:
        step(options.steps[0], options.folder)


if __name__ == "__main__":
    main()
