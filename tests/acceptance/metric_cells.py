"""Scores every method by every metric on all nine minis, and counts what became of each cell.

Run by hand:  python tests/acceptance/metric_cells.py OUT [--models N] [--examples 16] [--again 2]

Methods run at the ``quick`` parameters of their catalogue entry, metrics at their defaults; metrics that train models
are left out, they run where a suite names them. The same command goes on where it was interrupted. Exit code 1 if any
cell failed.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from attrlab.bench import command
from attrlab.bench.contract import quick
from attrlab.bench.registry import METHODS, METRICS
from attrlab.bench.session import Options
from attrlab.bench.suite import ReExplain, Suite
from attrlab.bench.zoo import BY_MINI
from attrlab.leaderboard import load, statistics


def suite(models: int, examples: int, again: int) -> Suite:
    """Returns everything by everything on the first minis of the zoo; explained again are the first examples."""
    return Suite(
        name="metric_cells",
        title="Every method by every metric",
        models=list(BY_MINI)[:models],
        datasets=["lexicon"],
        methods=[quick(name).name for name in METHODS.entries()],
        metrics=[name for name, facts in METRICS.entries().items() if not facts.trains],
        limit=examples,
        operators=["delete"],
        re_explain=ReExplain(examples=again, seeds=2, draws=2),
    )


def main() -> int:
    """Runs the suite and prints the counts by status, then the reasons of what has no value."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=int, default=len(BY_MINI))
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--again", type=int, default=2)
    given = parser.parse_args()
    command.run(suite(given.models, given.examples, given.again), given.out, None, Options())
    found = statistics.aggregate(load.read(given.out))
    counts = Counter(one.status for one in found)
    partly = sum(one.status == "ok" and one.n_scored < one.n_total for one in found)
    print(
        f"{len(found)} cells (method x metric x mini): {counts['ok']} scored ({partly} of them not on every example), "
        f"{counts['undefined']} without a value on any example, {counts['skipped']} skipped, "
        f"{counts['missing']} missing, {counts['failed']} failed"
    )
    for status in ("undefined", "skipped", "missing", "failed"):
        reasons = Counter((one.column.metric, one.reason) for one in found if one.status == status)
        for (metric, reason), count in sorted(reasons.items(), key=lambda item: (-item[1], item[0][0])):
            print(f"{status:9} {count:5}  {metric}: {reason}")
    return int(counts["failed"] + counts["missing"] > 0)


if __name__ == "__main__":
    sys.exit(main())
