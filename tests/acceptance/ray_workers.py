"""Are two Ray workers nearly twice as fast as one, and are their tables those of a local run, even if one is killed?

Run by hand on an idle machine with two cores (about 25 minutes, of which the alternations take most):

    python tests/acceptance/ray_workers.py OUT [--alternations 5] [--examples 384] [--model bert-base-mini]

A job that one core bounds (LIME and the curves of a mini) runs locally with one worker, then with one and with two Ray
workers, turn by turn. Ray runs on this machine before, as on a cluster (``--address``), so its own start is in no time;
that of a run and of its workers is. Then a run with two workers loses one to SIGKILL as soon as scores are written. A
method from a file is among the methods. Exit code 1 if any table differs from the local one.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
PLUGIN = """import numpy as np


class FirstWords:
    def ask(self, game, rng):
        yield from ()
        return -np.arange(game.n_units, dtype=float)
"""


def job(given: argparse.Namespace, out: Path, *more: object) -> list[str]:
    """Returns the command of a run."""
    command = [
        *(BIN / "attrlab", "run", "adhoc", "--dataset", "lexicon", "--limit", given.examples, "--model", given.model),
        *("--method", "random", "--method", "lime:samples=1000", "--method", "shapley_sampling:permutations=50"),
        *("--method", "rise:samples=1000", "--method", "saliency", "--method", given.out / "first.py:FirstWords"),
        *("--metric", "comprehensiveness", "--metric", "deletion_auc", "--metric", "infidelity"),
        *("--out", out, *more),
    ]
    return list(map(str, command))


def seconds(command: list[str]) -> float:
    """Runs a command; returns how long it took."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def table(out: Path) -> str:
    """Returns the table of a folder, byte for byte."""
    command = [BIN / "attrlab", "table", out, "--no-timings"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def actors() -> list[int]:
    """Returns the processes of Ray's workers."""
    found = subprocess.run(["pgrep", "-f", "^ray::_Actor"], capture_output=True, text=True, check=False)
    return list(map(int, found.stdout.split()))


def lose_one(command: list[str], out: Path) -> int:
    """Runs a command and kills one of its workers once scores are written; returns how many there were then."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not (written := len(list(out.glob("scores/*.json")))) or not actors():
        if process.poll() is not None:
            sys.exit("the run ended before a worker could be killed")
        time.sleep(0.05)
    os.kill(actors()[0], signal.SIGKILL)
    if process.wait():
        sys.exit("the run did not survive the loss of a worker")
    return written


def main() -> int:
    """Runs everything; prints times, ratios and whether tables agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--alternations", type=int, default=5)
    parser.add_argument("--examples", type=int, default=384)
    parser.add_argument("--model", default="bert-base-mini")
    given = parser.parse_args()
    given.out = given.out.absolute()
    given.out.mkdir(parents=True)
    (given.out / "first.py").write_text(PLUGIN)
    os.environ["OMP_NUM_THREADS"] = "1"
    subprocess.run([BIN / "ray", "start", "--head", "--num-cpus", "2"], check=True, stdout=subprocess.DEVNULL)
    try:
        return measure(given)
    finally:
        subprocess.run([BIN / "ray", "stop"], check=False, stdout=subprocess.DEVNULL)


def measure(given: argparse.Namespace) -> int:
    """Runs and compares; returns the exit code."""
    on_ray = ("--executor", "ray", "--address", "auto", "--workers")
    print(f"local, one worker: {seconds(job(given, given.out / 'local', '--workers', 1)):.1f} s", flush=True)
    expected, ratios, same = table(given.out / "local"), [], True
    for turn in range(given.alternations):
        took = {}
        for workers in (1, 2) if turn % 2 else (2, 1):
            out = given.out / f"turn-{turn}-{workers}"
            took[workers] = seconds(job(given, out, *on_ray, workers))
            same &= table(out) == expected
        ratios.append(took[1] / took[2])
        print(f"Ray: one worker {took[1]:.1f} s, two {took[2]:.1f} s, ratio {ratios[-1]:.2f}", flush=True)
    if ratios:
        print(f"median ratio {statistics.median(ratios):.2f}; all tables byte-identical to the local one: {same}")
    out = given.out / "killed"
    written = lose_one(job(given, out, *on_ray, 2), out)
    survived = table(out) == expected
    print(f"a worker killed after {written} chunks of scores: table byte-identical: {survived}")
    return int(not (same and survived))


if __name__ == "__main__":
    sys.exit(main())
