"""Does the leaderboard tell equal methods apart, and do its intervals hold what they promise?

    python tests/acceptance/null_boards.py OUT_FOLDER [--boards 1000] [--power-boards 200]

Simulates boards of ten equal methods, on 100 and 500 examples: normal, skewed, 0/1 and heavily tied scores, correlated
across methods by 0 and 0.8, and independent examples or groups of five that are alike (resampled and flipped by group).
Counts the boards on which any pair is separated (sign-flip tests, Holm's correction, |d_z| >= 0.1), which at most 5 %
may be, and the intervals that hold the true mean, which 93 to 97 % should at 500 examples. Then one method is made
better by a known effect: how often it is found, before and after correction, is drawn against the effect. Writes
``null_boards.md`` and ``null_boards.png``; exits with 1 if a promise is broken. Takes a few minutes on two free cores.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import sqrt
from pathlib import Path

import numpy as np
from scipy import stats

from attrlab.bench.types import Floats
from attrlab.leaderboard.comparisons import ALPHA, detectable, holm, separated, win
from attrlab.leaderboard.flips import sign_flips
from attrlab.leaderboard.statistics import intervals

METHODS = 10
GROUP = 5  # examples in a group
BATCH = 100  # boards tested at once
INTERVALS = 4  # of means, for each board
MARGINALS = {
    "normal": (lambda z: z, 0.0),
    "skewed": (lambda z: -np.log(stats.norm.sf(z)), 1.0),  # exponential
    "0/1": (lambda z: (z > 0.5).astype(np.float64), stats.norm.sf(0.5)),
    "ties": (lambda z: np.rint(z).clip(-1, 1), 0.0),
}
"""Scores as a function of standard normals, and their true mean."""
FIRST, SECOND = np.triu_indices(METHODS, 1)


@dataclass(frozen=True, slots=True)
class Setting:
    """How the boards of one row are drawn."""

    marginal: str
    n: int
    correlation: float
    grouped: bool

    @property
    def groups(self) -> list[int] | None:
        """Label of each example."""
        return (np.arange(self.n) // GROUP).tolist() if self.grouped else None

    def draw(self, boards: int, rng: np.random.Generator) -> Floats:
        """Returns standard normals, correlated across methods and within groups, ``(boards, n, METHODS)``."""
        common, own = self._normals((boards, self.n, 1), rng), self._normals((boards, self.n, METHODS), rng)
        return sqrt(self.correlation) * common + sqrt(1 - self.correlation) * own

    def _normals(self, shape: tuple[int, int, int], rng: np.random.Generator) -> Floats:
        alone = rng.standard_normal(shape)
        if not self.grouped:
            return alone
        boards, n, columns = shape
        shared = np.repeat(rng.standard_normal((boards, n // GROUP, columns)), GROUP, axis=1)
        return (alone + shared) / sqrt(2)


def tested(values: Floats, groups: list[int] | None) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Yields raw p, adjusted p and d_z of all pairs of each board, of many boards at once."""
    differences = values[:, :, FIRST] - values[:, :, SECOND]
    boards, n, pairs = differences.shape
    ps = sign_flips(differences.transpose(1, 0, 2).reshape(n, boards * pairs), groups).reshape(boards, pairs)
    spread = differences.std(axis=1, ddof=1)
    d_zs = np.divide(differences.mean(axis=1), spread, out=np.zeros_like(spread), where=spread > 0)
    for raw, d_z in zip(ps, d_zs, strict=True):
        yield raw, holm(raw), d_z


def wins(adjusted: Floats, d_z: Floats) -> list[bool]:
    """Returns which pairs of a board are separated."""
    return [win(p, d) for p, d in zip(adjusted.tolist(), d_z.tolist(), strict=True)]


def null(setting: Setting, boards: int) -> dict[str, float]:
    """Returns how often equal methods are separated, and how often intervals hold the mean."""
    rng = np.random.default_rng([setting.n, int(10 * setting.correlation), setting.grouped])
    score, truth = MARGINALS[setting.marginal]
    counts = {"separated": 0, "adjusted": 0, "raw": 0}
    for start in range(0, boards, BATCH):
        values = score(setting.draw(min(BATCH, boards - start), rng))
        for place, (raw, adjusted, d_z) in enumerate(tested(values, setting.groups)):
            found = wins(adjusted, d_z)
            if start == place == 0:
                better = separated(values[0], higher_is_better=True, groups=setting.groups)
                assert found == (better | better.T)[FIRST, SECOND].tolist()
            counts["separated"] += any(found)
            counts["adjusted"] += bool((adjusted < ALPHA).any())
            counts["raw"] += float((raw < ALPHA).mean())
    # Intervals of the methods on one board are not independent: one of each of other boards is counted.
    columns = np.concatenate([score(setting.draw(boards, rng)[:, :, 0]) for _ in range(INTERVALS)])
    low, high = intervals(columns.T, groups=setting.groups).T
    return {name: count / boards for name, count in counts.items()} | {
        "coverage": float(((low <= truth) & (truth <= high)).mean())
    }


def power(n: int, effect: float, boards: int) -> tuple[float, float]:
    """Returns how often a method that is better by ``effect`` (d_z) is found: by one test, and after correction."""
    rng = np.random.default_rng([n, round(1000 * effect)])
    values = Setting("normal", n, 0.0, False).draw(boards, rng)
    values[:, :, 0] += effect * sqrt(2)  # the standard deviation of a difference
    own = FIRST == 0
    found = [(raw[own] < ALPHA, np.array(wins(adjusted, d_z))[own]) for raw, adjusted, d_z in tested(values, None)]
    one, all_ = np.mean(found, axis=(0, 2)).tolist()
    return one, all_


def draw(curves: dict[int, list[tuple[float, float, float]]], path: Path) -> None:
    """Draws power against effect size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.2), constrained_layout=True)
    for (n, points), colour in zip(curves.items(), ("#0b6e69", "#c2652a"), strict=True):
        effects, one, corrected = zip(*points, strict=True)
        axes.plot(effects, corrected, color=colour, label=f"n = {n}, Holm over 45 pairs")
        axes.plot(effects, one, color=colour, linestyle="--", label=f"n = {n}, one test")
        axes.plot([detectable(n)], [0.8], "o", color=colour, label=f"n = {n}, smallest effect in tables")
    axes.set(xlabel="true effect $d_z$", ylabel="share found", ylim=(0, 1.02), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def nulls(boards: int) -> tuple[list[str], int]:
    """Returns a table of all settings, and how many break a promise."""
    limit = 0.05 + 2 * sqrt(0.05 * 0.95 / boards)
    noise = 2 * sqrt(0.05 * 0.95 / (INTERVALS * boards))
    heads = (
        "scores",
        "n",
        "correlation",
        "examples",
        "separated",
        "Holm p < 0.05",
        "raw p < 0.05",
        "coverage",
        "holds",
    )
    lines = [f"{boards} boards of {METHODS} equal methods; at most {100 * limit:.1f} % may be separated.\n"]
    lines += [f"| {' | '.join(heads)} |", "|---|---:|---:|---|---:|---:|---:|---:|---|"]
    broken = 0
    for marginal, n, correlation, grouped in product(MARGINALS, (100, 500), (0.0, 0.8), (False, True)):
        found = null(Setting(marginal, n, correlation, grouped), boards)
        holds = found["adjusted"] <= limit and (n < 500 or 0.93 - noise <= found["coverage"] <= 0.97 + noise)
        broken += not holds
        shares = [f"{100 * found[name]:.1f} %" for name in ("separated", "adjusted", "raw", "coverage")]
        examples = f"groups of {GROUP}" if grouped else "independent"
        row = [marginal, str(n), f"{correlation:g}", examples, *shares, "yes" if holds else "no"]
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    return lines, broken


def main() -> int:
    """Runs all settings; returns 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--boards", type=int, default=1000)
    parser.add_argument("--power-boards", type=int, default=200)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines, broken = nulls(options.boards)
    effects = np.linspace(0, 0.8, 17).tolist()
    curves = {n: [(e, *power(n, e, options.power_boards)) for e in effects] for n in (100, 500)}
    lines += [
        "",
        "| d_z | " + " | ".join(f"n = {n}, one test | n = {n}, Holm" for n in curves) + " |",
        "|---:" * 5 + "|",
    ]
    for place, effect in enumerate(effects):
        shares = [f"{100 * share:.0f} %" for points in curves.values() for share in points[place][1:]]
        lines.append(f"| {effect:.2f} | {' | '.join(shares)} |")
    draw(curves, options.out / "null_boards.png")
    (options.out / "null_boards.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{broken} settings break a promise; see {options.out / 'null_boards.md'}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
