"""Kills a run with SIGKILL ten times at random moments, resumes it each time, and compares the tables.

Run by hand (a few minutes): python tests/acceptance/kill_and_resume.py [SEED]
The reference is an uninterrupted run into an empty folder with an empty cache of its own.
"""

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KILLS = 10
COMMAND = [
    *("attrlab", "run", "adhoc", "--dataset", "lexicon", "--limit", "64"),
    *("--model", "bert-base-mini", "--model", "gpt2-mini", "--model", "opt-125m-mini"),
    *("--method", "random", "--method", "leave_one_out", "--method", "saliency", "--method", "lime:samples=100"),
    *("--method", "shap:evals=60", "--method", "co_perturbation:draws=2,steps=60"),
    *("--metric", "comprehensiveness", "--metric", "sufficiency", "--metric", "tau_loo", "--metric", "token_f1"),
    *("--metric", "seed_consistency", "--metric", "noise_stability", "--metric", "seconds", "--metric", "forwards"),
]


def start(out: Path, cache: Path) -> subprocess.Popen[str]:
    """Starts the run in a process of its own."""
    environment = {**os.environ, "ATTRLAB_CACHE": str(cache)}
    return subprocess.Popen(
        [*COMMAND, "--out", str(out)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def table_hash(out: Path) -> str:
    """Returns the hash of the table without measured time."""
    command = ["attrlab", "table", str(out), "--no-timings", "--format", "json"]
    table = subprocess.run(command, capture_output=True, check=True).stdout
    return hashlib.sha256(table).hexdigest()


def state(out: Path, cache: Path) -> str:
    """Returns what is whole on disk: models, and chunks of each kind."""
    kinds = {kind: len(list((out / kind).glob("*.json"))) for kind in ("predictions", "attributions", "scores")}
    return f"{len(list(cache.glob('models/*/attrlab.json')))} models, " + ", ".join(
        f"{n} {k}" for k, n in kinds.items()
    )


def phase(out: Path) -> str:
    """Returns what a run that stands like this was busy with."""
    if not (out / "run.json").exists():
        return "training"
    return "attribution or scoring" if list((out / "scores").glob("*.json")) else "attribution"


def main() -> None:
    """Runs the comparison and exits with 1 if the tables differ."""
    draws = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    folder = Path(tempfile.mkdtemp())
    began = time.perf_counter()
    reference = start(folder / "reference", folder / "cache-a")
    output, _ = reference.communicate()
    took = time.perf_counter() - began
    print(f"uninterrupted: {took:.0f} s, {summary(output)}", flush=True)
    expected = table_hash(folder / "reference")

    outs, kills = [folder / "killed-0"], 0
    while kills < KILLS:
        cache = folder / f"cache-{outs[-1].name}"
        run, delay = start(outs[-1], cache), draws.uniform(5, took * 0.9)
        try:
            output, _ = run.communicate(timeout=delay)
            print(f"finished before it was killed: {summary(output)}; going on with nothing", flush=True)
            outs.append(folder / f"killed-{len(outs)}")
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            kills += 1
            found = state(outs[-1], cache)
            print(f"kill {kills:2d} after {delay:4.1f} s, in {phase(outs[-1])}: {found} whole", flush=True)
    output, _ = start(outs[-1], folder / f"cache-{outs[-1].name}").communicate()
    print(f"resumed: {summary(output)}")
    hashes = [table_hash(out) for out in outs]
    print(f"uninterrupted {expected}", *(f"killed        {found}" for found in hashes), sep="\n")
    sys.exit(set(hashes) != {expected})


def summary(output: str) -> str:
    """Returns the line of a run that counts its chunks."""
    match = re.search(r"\d+ chunks computed.*", output)
    return match[0] if match else output[-500:]


if __name__ == "__main__":
    main()
