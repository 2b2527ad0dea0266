"""Explains with trained minis under three token budgets and compares attributions, and metrics of one stored set.

Run by hand (a few minutes): python tests/acceptance/batch_invariance.py
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

BUDGETS = (256, 4096, 0)
TOLERANCE = 1e-5
COMMAND = [
    *("attrlab", "run", "demo", "--limit", "16"),
    *("--model", "bert-base-mini", "--model", "gpt2-mini", "--model", "opt-125m-mini"),
]


def rows(folder: Path, kind: str) -> dict[str, list[dict[str, object]]]:
    """Returns the rows of every chunk of a kind, by key."""
    return {path.stem: json.loads(path.read_text())["rows"] for path in (folder / kind).glob("*.json")}


def gap(ours: list[dict[str, object]], theirs: list[dict[str, object]]) -> float:
    """Returns the largest difference of scores, relative to the largest score of the example."""
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        x, y = np.array(a["scores"], dtype=float), np.array(b["scores"], dtype=float)
        worst = max(worst, float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-300)))
    return worst


def main() -> None:
    """Prints the largest gaps and exits with 1 if one is over the tolerance."""
    folder = Path(tempfile.mkdtemp())
    for budget in BUDGETS:
        out = folder / str(budget)
        subprocess.run([*COMMAND, "--out", out, "--token-budget", str(budget)], check=True, stdout=subprocess.DEVNULL)
        again = folder / f"{budget}-scores"  # the attributions of the first budget, scored under this one
        shutil.copytree(folder / str(BUDGETS[0]), again, ignore=shutil.ignore_patterns("scores"))
        subprocess.run([*COMMAND, "--out", again, "--token-budget", str(budget)], check=True, stdout=subprocess.DEVNULL)
    methods = {
        path.stem: json.loads(path.read_text())["of"] for path in (folder / str(BUDGETS[0]) / "attributions").iterdir()
    }
    reference, scores = rows(folder / str(BUDGETS[0]), "attributions"), rows(folder / f"{BUDGETS[0]}-scores", "scores")
    failed = False
    for budget in BUDGETS[1:]:
        found = rows(folder / str(budget), "attributions")
        worst: dict[str, float] = {}
        for key, ours in reference.items():
            name = methods[key]["method"]["id"]
            worst[name] = max(worst.get(name, 0.0), gap(ours, found[key]))
        for name, value in worst.items():
            print(f"budget {budget:4d} against {BUDGETS[0]}: {name:22s} largest relative gap {value:.2e}")
        other = rows(folder / f"{budget}-scores", "scores")
        drift = max(
            abs(float(a["value"]) - float(b["value"]))  # type: ignore[arg-type]
            for key in scores
            for a, b in zip(scores[key], other[key], strict=True)
            if a["value"] is not None
        )
        print(f"budget {budget:4d}: metrics of one stored set of attributions differ by at most {drift:.2e}")
        failed |= max([*worst.values(), drift]) > TOLERANCE
    sys.exit(failed)


if __name__ == "__main__":
    main()
