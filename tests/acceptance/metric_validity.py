"""Do the metrics of faithfulness know a faithful explanation when they see one?

    python tests/acceptance/metric_validity.py OUT_FOLDER [--limit 64] [--model NAME ...] [--dataset NAME ...] ...

Where the words that a model goes by are known (planted, and verified by intervention: examples that ``planted_recall``
keeps), an explanation that marks just those should beat every method, and every method should beat noise. For each
metric of the families ``faithfulness`` and ``agreement``, per model and data set: the mean with its 95 % interval for
that oracle, for the method with the best mean and for noise, and whether the three lie in this order with disjoint
intervals (:func:`verdict`). Runs through ``attrlab run``, so a run that was interrupted goes on. Writes
``validity.json`` and ``validity.md``, and what the cards of the metrics say of it, ``metrics/_validity.py``.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attrlab import leaderboard
from attrlab.bench.facts import MetricFacts
from attrlab.bench.registry import METRICS
from attrlab.bench.types import Floats, Json
from attrlab.leaderboard.board import Board, Cell
from attrlab.leaderboard.statistics import intervals

PLUGIN = Path(__file__).with_name("planted_oracle.py")
CARDS = Path(__file__).parents[2] / "metrics" / "_validity.py"
ORACLE, NOISE = f"{PLUGIN}:Oracle", f"{PLUGIN}:Noise"
FAMILIES = ("faithfulness", "agreement")
MODELS = ("bert-base-mini", "gpt2-mini")
DATASETS = ("keyword", "bag_of_words", "negation", "and_pair")
REAL = (
    "leave_one_out",
    "input_x_gradient",
    "integrated_gradients:steps=10",
    "kernel_shap:samples=64",
    "attention_last",
)
GOLD = "planted_recall"


def judged() -> dict[str, MetricFacts]:
    """Returns the metrics that are put to the test: those with a direction that train nothing."""
    return {
        name: facts
        for name, facts in METRICS.entries().items()
        if facts.family in FAMILIES and facts.higher_is_better is not None and not facts.trains
    }


def run(out: Path, dataset: str, options: argparse.Namespace) -> Path:
    """Runs models x methods x metrics on one data set, and returns the folder of results."""
    folder = out / dataset
    command = [sys.executable, "-c", "from attrlab.bench.cli import main; main()", "run", "adhoc", "--out", str(folder)]
    command += ["--limit", str(options.limit), "--dataset", dataset]
    for model in options.model or MODELS:
        command += ["--model", model]
    for method in (f"{ORACLE}:dataset={dataset}", NOISE, *(options.method or REAL)):
        command += ["--method", method]
    for metric in (GOLD, *options.metric):
        command += ["--metric", metric]
    subprocess.run(command, check=True)
    return folder


def values(board: Board, cell: Cell, column: int) -> Floats:
    """Returns a value per example, NaN where there is none or where the planted words are not what counts."""
    gold = next(index for index, one in enumerate(board.columns) if one.metric == GOLD)
    kept, found = cell.scores[gold].values, cell.scores[column].values
    return np.where(np.isnan(kept), np.nan, found) if len(found) else np.full(len(kept), np.nan)


def verdict(rows: dict[str, Json], higher_is_better: bool) -> str:
    """Returns how oracle, best method and noise lie, by whether their intervals are disjoint.

    ``ordered`` if they lie in this order; ``level`` if the first two overlap (a method that finds just the planted
    words is the oracle); ``above`` if the best method is before the oracle; ``blind`` if noise is not behind both.
    """

    def beats(one: str, other: str) -> bool:
        first, second = (one, other) if higher_is_better else (other, one)
        return bool(rows[first]["low"] > rows[second]["high"])

    if not (beats("oracle", "noise") and beats("best", "noise")):
        return "blind"
    if beats("best", "oracle"):
        return "above"
    return "ordered" if beats("oracle", "best") else "level"


def compared(board: Board, cells: Sequence[Cell], column: int) -> Json | None:
    """Returns oracle, best method and noise in one column of one model, on the examples that all three have."""
    card = next(one for one in board.metrics if one.name == board.columns[column].metric)
    by_method = {cell.method: values(board, cell, column) for cell in cells if cell.scores}
    usable = {name: found for name, found in by_method.items() if not np.isnan(found).all()}
    oracle, noise = (next((name for name in usable if name.startswith(one)), None) for one in (ORACLE, NOISE))
    real = [name for name in usable if name not in (oracle, noise)]
    if oracle is None or noise is None or not real:
        return None
    sign = 1 if card.higher_is_better else -1
    best = max(real, key=lambda name: sign * np.nanmean(usable[name]))
    shared = np.stack([usable[oracle], usable[best], usable[noise]], axis=1)
    shared[np.isnan(shared).any(axis=1)] = np.nan
    n = int((~np.isnan(shared[:, 0])).sum())
    if n < 2:
        return None
    rows = {
        name: {"mean": float(np.nanmean(shared[:, index])), "low": float(low), "high": float(high)}
        for index, (name, (low, high)) in enumerate(zip(("oracle", "best", "noise"), intervals(shared), strict=True))
    }
    return {
        "metric": card.name,
        "operator": board.columns[column].operator,
        "higher_is_better": card.higher_is_better,
        "examples": n,
        "method": best,
        **rows,
        "ordered": verdict(rows, bool(card.higher_is_better)),
    }


def judge(folder: Path) -> list[Json]:
    """Returns one row per model, metric and operator of a results folder."""
    board = leaderboard.read(folder)
    rows = []
    for model in dict.fromkeys(cell.model for cell in board.cells):
        cells = [cell for cell in board.cells if cell.model == model]
        for column in range(len(board.columns)):
            found = compared(board, cells, column) if board.columns[column].metric != GOLD else None
            if found:
                rows.append({"model": model, "dataset": cells[0].dataset, **found})
    return rows


def markdown(rows: Sequence[Json]) -> str:
    """Returns the table, one line per row."""
    columns = ("metric", "operator", "model", "data set", "examples", "oracle", "best method", "", "noise", "ordered")
    lines = [" | ".join(columns), "|".join(["---"] * len(columns))]
    for row in sorted(rows, key=lambda row: (row["metric"], row["operator"] or "", row["dataset"], row["model"])):
        shown = {name: "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row[name]) for name in ("oracle", "best", "noise")}
        arrow = "↑" if row["higher_is_better"] else "↓"
        head = [f"{row['metric']} {arrow}", row["operator"] or "", row["model"], row["dataset"], str(row["examples"])]
        lines.append(" | ".join([*head, shown["oracle"], row["method"], shown["best"], shown["noise"], row["ordered"]]))
    return "".join(f"| {line} |\n" for line in lines)


SAID = {
    "ordered": "oracle > best method > noise in {} of {} settings",
    "level": "oracle and best method level in {}",
    "above": "best method above the oracle in {}",
    "blind": "noise not told apart from both in {}",
}


def cards(rows: Sequence[Json]) -> str:
    """Returns the source of what the cards say, one sentence per metric."""
    lines = []
    for name, facts in METRICS.entries().items():
        count = Counter(row["ordered"] for row in rows if row["metric"] == name)
        said = [SAID[kind].format(count[kind], count.total()) for kind in SAID if count[kind] or kind == "ordered"]
        if count:
            lines.append(f'    "{name}": "{"; ".join(said)}",\n')
        elif facts.family in FAMILIES and facts.higher_is_better is not None:
            why = "it would train models for it" if facts.trains else "that claims no sum of its scores"
            lines.append(f'    "{name}": "not judged against an oracle: {why}",\n')
    settings = "\n".join(
        f"{what}: {', '.join(dict.fromkeys(row[key] for row in rows))}."
        for what, key in (("Data sets", "dataset"), ("Models", "model"))
    )
    about = "What metrics make of explanations whose order is known; written by tests/acceptance/metric_validity.py."
    examples = max(row["examples"] for row in rows)
    return (
        f'# ruff: noqa: E501\n"""{about}\n\n{settings}\nAt most {examples} examples each; 95 % intervals.\n"""\n\n'
        f"VALIDITY: dict[str, str] = {{\n{''.join(lines)}}}\n"
    )


def main() -> None:
    """Runs, judges, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=64)
    for option in ("model", "dataset", "method", "metric"):
        parser.add_argument(f"--{option}", action="append")
    options = parser.parse_args()
    options.metric = options.metric or judged()
    rows = [row for dataset in options.dataset or DATASETS for row in judge(run(options.out, dataset, options))]
    (options.out / "validity.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    (options.out / "validity.md").write_text(markdown(rows), "utf-8")
    CARDS.write_text(cards(rows), "utf-8")
    print(markdown(rows))


if __name__ == "__main__":
    main()
