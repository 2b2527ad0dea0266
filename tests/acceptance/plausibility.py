"""Judges methods on five rationale sets, each with a model fine-tuned for it: where are they between chance and people?

Run by hand (hours on a CPU; ENCODER is a folder or hub id of a small encoder, DATA holds the prepared data sets):

    python tests/acceptance/plausibility.py ENCODER DATA OUT [LIMIT]

Models and results go to folders under OUT; run again, it goes on where it stopped. ``attrlab run`` crosses models with
data sets, so each set is a run of its own. Fails where a random order does not get what chance gives, or a set has
nothing to score.
"""

import json
import subprocess
import sys
from pathlib import Path

from attrlab.bench.registry import METRICS as REGISTRY
from attrlab.bench.types import Json

SETS = {
    "eraser_movies": "eraser_movies",
    "tweet_sentiment_extraction": "tweet_sentiment_extraction",
    "hatexplain": "hatexplain",
    "fair_rationales:sst_unseen": "sst2",
    "hummingbird:sentiment": "sst2",
}
"""What is judged, and what its model is trained on."""

METHODS = (
    *("random", "leave_one_out", "saliency", "input_x_gradient", "integrated_gradients:steps=20"),
    *("lime:samples=200", "shap:evals=200", "attention_last", "co_perturbation:preset=fast"),
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


def judge(name: str, model: Path, data: Path, out: Path, limit: str) -> list[Json]:
    """Runs one set and returns its records."""
    listed = [part for method in METHODS for part in ("--method", method)]
    listed += [part for metric in METRICS for part in ("--metric", metric)]
    given = ("--model", model, "--dataset", name, "--data-dir", data, "--limit", limit, "--out", out)
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


def main() -> None:
    """Trains what is missing, runs all sets and fails if something is wrong."""
    encoder, data, out, limit = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), (sys.argv[4:] or ["200"])[0]
    wrong = []
    for name, train in SETS.items():
        model = out / "models" / train
        if not (model / "config.json").is_file():
            attrlab("train", encoder, train, "--out", model, "--data-dir", data)
        records = judge(name, model, data, out / name.replace(":", "-"), limit)
        wrong += against_chance(name, records)
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
