"""The table of the benchmark against the peers: times, ratios, work done, and how far the answers are alike."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from worker import Json, Worker

EXACT = ("gradient", "gradient_x_input", "ig_x_input")
"""Explanations that ferret defines as we do, but for a factor."""

NOTES = """\
- ratio: seconds of the peer over ours, median of the alternations (least to most); per question: times our questions
  over the peer's, as if both had asked as many.
- asked: questions before any were merged; unique: different rows that the model ran. Both per example, ours / peer.
- of the rate: operations of the unique rows, 2 x weights x tokens + 4 x layers x width x squared lengths (twice where
  gradients are taken), per second, over the best rate of matrix products of the same type in the same turn; times the
  floor is its inverse.
- ferret: SHAP has another tree and its budget of 500; LIME perturbs special tokens as well and weighs by another
  distance; the gradient "ig" is rounding (LayerNorm) and ours its length; it decodes and re-tokenises what it removes,
  so that word pieces may change; comprehensiveness, sufficiency and tau-LOO are compared on its explanations.
- interpreto: LIME and Kernel SHAP draw from other distributions (the latter never asks the end points); integrated
  gradients take the mean magnitude of the product with the point on the path, ours the signed integral.
"""


HEAD = (
    "| against | part | ours in | ours, s / example | peer | ratio | per question | asked | unique | of the rate "
    "| times the floor | agreement |\n" + "|---" * 12 + "|"
)


def agreement(part: str, ours: Json, theirs: Json) -> str:
    """Returns how far the answers of two sides are alike, in words."""
    if part == "whole":
        return ""
    if part == "metrics":
        return "; ".join(_values(kind, ours, theirs) for kind in ("comprehensiveness", "sufficiency", "tau_loo"))
    if part == "gradients":
        return f"shares differ by {max(_shares(ours[name], theirs[name]) for name in EXACT):.0e} at most"
    if part in ("occlusion", "deletion", "insertion"):
        gap = max(_gap(one, other) for one, other in zip(ours[part], theirs[part], strict=True))
        return f"differ by {gap:.0e} at most"
    if part == "integrated_gradients":
        return f"rank correlation of magnitudes {_ranks(ours[part], theirs[part], abs):.2f}"
    return f"rank correlation {_ranks(ours[part], theirs[part], float):.2f}"


def _gap(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> float:
    return float(np.abs(np.subtract(ours, theirs)).max())


def _shares(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    pairs = [[np.divide(one, np.abs(one).sum()) for one in pair] for pair in zip(ours, theirs, strict=True)]
    return max(_gap(*pair) for pair in pairs)


def _ranks(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], of: Callable[[float], float]) -> float:
    pairs = zip(ours, theirs, strict=True)
    found = [spearmanr(*([of(value) for value in one] for one in pair)).statistic for pair in pairs]
    return float(np.nanmean(found))


def _values(kind: str, ours: Json, theirs: Json) -> str:
    pairs = [pair for name in ours if name.startswith(kind) for pair in zip(ours[name], theirs[name], strict=True)]
    gaps = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    return f"{kind} within 1e-4: {np.mean(np.array(gaps) <= 1e-4):.0%} (mean gap {np.mean(gaps):.0e})"


def operations(run: Json, model: Json) -> float:
    """Returns the useful operations of the unique rows."""
    return float(2 * model["weights"] * run["tokens"] + 4 * model["layers"] * model["width"] * run["squares"])


def lines(title: str, runs: Sequence[Json], model: Json) -> list[str]:
    """Returns the rows of the table about one peer and kind of text."""
    by_side: dict[tuple[str, str], list[Json]] = {}
    for run in sorted(runs, key=lambda run: run["turn"]):
        by_side.setdefault((run["part"], run["side"]), []).append(run)
    return [
        line([title, part, side], ours, by_side.get((part, "peer"), []), model)
        for (part, side), ours in by_side.items()
        if side != "peer"
    ]


def line(names: Sequence[str], ours: Sequence[Json], peer: Sequence[Json], model: Json) -> str:
    """Returns one row: our runs of a part, and the peer's in the same turns, if it has any."""
    examples, part = ours[0]["examples"], ours[0]["part"]
    used = median(operations(run, model) / run["seconds"] / run["rate"] for run in ours)
    versus, alike = ["", "", ""], ""
    if peer:
        ratios = [other["seconds"] / run["seconds"] for run, other in zip(ours, peer, strict=True)]
        versus = [
            f"{median(run['seconds'] for run in peer) / examples:.4f}",
            f"**{median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f})",
            f"{median(ratios) * ours[0]['asked'] / peer[0]['asked']:.2f}",
        ]
        alike = agreement(part, ours[0]["found"], peer[0]["found"])
    seconds = f"{median(run['seconds'] for run in ours) / examples:.4f}"
    counts = [
        " / ".join(f"{some[0][key] / examples:.0f}" for some in (ours, peer) if some) for key in ("asked", "unique")
    ]
    return "| " + " | ".join([*names, seconds, *versus, *counts, f"{used:.2f}", f"{1 / used:.2f}", alike]) + " |"


def conditions(model: Json, runs: Sequence[Json]) -> str:
    """Returns what was measured, and how fast matrices were multiplied meanwhile."""
    rates: dict[str, list[float]] = {}
    for run in runs:
        if run["rate"] is not None:
            rates.setdefault(run["side"], []).append(run["rate"])
    shown = ", ".join(f"{median(rate) / 1e9:.0f} GFLOP/s ({side})" for side, rate in rates.items())
    turns, units = 1 + max(run["turn"] for run in runs), model["units"]
    return f"{len(units)} texts of {min(units)}-{max(units)} tokens (mean {np.mean(units):.1f}), {turns} turns, {shown}"


def peaks(sides: Mapping[str, Worker]) -> str:
    """Returns the highest memory of every process."""
    return ", ".join(f"{worker.peak / 2**20:.0f} MiB ({name})" for name, worker in sides.items())
