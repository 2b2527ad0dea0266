"""Judges methods on five rationale sets: where are they between chance and people?

    python tests/acceptance/plausibility.py ENCODER DATA OUT [--limit 64] [--steps N] [--set NAME ...] [--method ...]

Run by hand (hours on a CPU). ENCODER is a folder or hub id of a small encoder that classifies SST-2, DATA holds the
prepared data sets. On sentences of movie reviews it is judged as it is; for the other sets it is fine-tuned first.
Models and results go to folders under OUT; run again, it goes on where it stopped. ``attrlab run`` crosses models with
data sets, so each set is a run of its own. Fails where a random order does not get what chance gives, or a set has
nothing to score.
"""

import argparse
import json
import subprocess
from pathlib import Path

from attrlab.bench.registry import METRICS as REGISTRY
from attrlab.bench.types import Json

SETS = {
    "hummingbird:sentiment": None,
    "fair_rationales:sst": None,
    "fair_rationales:sst_unseen": None,
    "tweet_sentiment_extraction": "tweet_sentiment_extraction",
    "hatexplain": "hatexplain",
    "eraser_movies": "eraser_movies",
}
"""What is judged, and what ENCODER is fine-tuned on for it (None: it is taken as it is)."""

METHODS = (
    *("random", "leave_one_out", "saliency", "input_x_gradient", "integrated_gradients:steps=20,max_steps=0"),
    *("lime:samples=100", "attention_last", "attn_lrp", "co_perturbation:preset=fast"),
)
JUDGES = ("auprc", "average_precision", "auroc", "token_f1", "iou_f1")
METRICS = (
    *JUDGES,
    *("auprc:annotators=soft", "token_iou", "iou_precision", "iou_recall", "precision_at_k:k=3", "reciprocal_rank"),
    *(f"{kind}:of={judge}" for kind in ("chance_level", "human_ceiling") for judge in JUDGES),
)
LEVELLED = ("auroc", "token_f1")
"""Judges for which the ties of scores below 0 make no difference to chance."""

FAR = 4.0
"""Standard errors beyond which random is not chance."""


def attrlab(*arguments: object) -> str:
    """Runs the command and returns what it prints."""
    command = ["attrlab", *map(str, arguments)]
    print("$", *command, flush=True)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def judge(name: str, model: str | Path, options: argparse.Namespace) -> list[Json]:
    """Runs one set and returns its records."""
    out = options.out / name.replace(":", "-")
    listed = [part for method in options.method or METHODS for part in ("--method", method)]
    listed += [part for metric in METRICS for part in ("--metric", metric)]
    given = ("--model", model, "--dataset", name, "--data-dir", options.data, "--limit", options.limit, "--out", out)
    attrlab("run", "adhoc", *given, *listed)
    records: list[Json] = json.loads(attrlab("table", out, "--no-timings", "--format", "json"))
    return records


def against_chance(name: str, records: list[Json]) -> list[str]:
    """Prints chance, the best method and people for each metric on a set, and returns what is wrong."""
    found = {(row["method"], row["metric"]): row for row in records}
    wrong = []
    for metric in JUDGES:
        columns = [
            REGISTRY.find(text).name for text in (metric, f"chance_level:of={metric}", f"human_ceiling:of={metric}")
        ]
        random, chance, people = (found["random", column] for column in columns)
        if random["ci_low"] is None:
            wrong.append(f"{name}: {metric} scores {random['n_scored']} examples ({random['reason']})")
            continue
        error = (random["ci_high"] - random["ci_low"]) / 3.92
        if metric in LEVELLED and abs(random["mean"] - chance["mean"]) > FAR * error:
            wrong.append(f"{name}: random has {metric} {random['mean']:.3f}, chance is {chance['mean']:.3f}")
        best = max((row for row in records if row["metric"] == metric), key=lambda row: row["mean"] or 0.0)
        ceiling = people["reason"] if people["mean"] is None else f"{people['mean']:.3f}"
        print(f"{name}  {metric}: chance {chance['mean']:.3f}, {best['method']} {best['mean']:.3f}, people {ceiling}")
    return wrong


def fine_tuned(encoder: str, train: str | None, options: argparse.Namespace) -> str | Path:
    """Returns the model to judge, trained now if it is not there yet."""
    if train is None:
        return encoder
    folder: Path = options.out / "models" / train
    if not (folder / "config.json").is_file():
        steps = ("--steps", options.steps) if options.steps else ()
        attrlab("train", encoder, train, "--out", folder, "--data-dir", options.data, *steps)
    return folder


def main() -> None:
    """Trains what is missing, runs all sets and fails if something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("encoder")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", default="64")
    parser.add_argument("--steps", help="upper bound on steps of fine-tuning")
    parser.add_argument("--set", action="append", choices=SETS)
    parser.add_argument("--method", action="append")
    options = parser.parse_args()
    wrong = []
    for name in options.set or SETS:
        model = fine_tuned(options.encoder, SETS[name], options)
        records = judge(name, model, options)
        wrong += against_chance(name, records)
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
