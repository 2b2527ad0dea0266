"""From scores to readings: means with their intervals, places and powers of one metric, or why they are absent."""

from collections.abc import Sequence
from math import isnan

import numpy as np

from attrlab.bench.types import Floats
from attrlab.leaderboard.comparisons import ratio_interval, separated
from attrlab.leaderboard.judged_scores import (
    Cast,
    Scores,
    cheating,
    diagnosticity,
    fitting,
    ladder,
    ladder_rank,
    mean,
    nulls,
)
from attrlab.leaderboard.judged_verdict import Reading
from attrlab.leaderboard.statistics import intervals

FEW = 32
"""Examples of the equal budget at which discriminative power is read a second time."""

_SAMPLES = 10  # subsets of as many examples


def means(scores: Scores, parts: Cast, best_there_is: str | None) -> dict[str, Reading]:
    """Returns the readings that are means over examples, each with its bootstrap interval or why it is absent."""
    random = scores.why("random", parts.random)
    leak = scores.why("label_leak", parts.cheater) if not scores.has(parts.cheater) else random
    vectors: dict[str, tuple[Floats, str]] = {
        "diagnosticity": (diagnosticity(scores, parts), f"{random}; no method beside degraded:of=METHOD"),
        "cheater": (cheating(scores, parts), leak),
        "floor": (scores.sign * scores.of(parts.random), random),
        "ceiling": (scores.sign * scores.of(best_there_is), scores.why("greedy_oracle", best_there_is)),
    }
    for name, of in (("ladder", ladder), ("ladder_rank", ladder_rank)):
        found = [of(scores, rungs) for rungs in fitting(scores, parts)]
        vector = mean(np.stack([*found, np.full(len(scores.examples), np.nan)]), axis=0)
        vectors[name] = (vector, "no ladder is scored: degraded:of=METHOD at two shares or more")
    table = np.stack([vector for vector, _ in vectors.values()], axis=1)
    averages, ends = mean(table, axis=0).tolist(), intervals(table).tolist()
    known = (~np.isnan(table)).sum(axis=0).tolist()
    return {
        name: reading(value, low, high, n, reason)
        for (name, (_, reason)), value, (low, high), n in zip(vectors.items(), averages, ends, known, strict=True)
    }


def reading(value: float, low: float, high: float, n: int, reason: str = "not defined here") -> Reading:
    """Returns a number with its interval, or the reason where the number is NaN; ends that are NaN are left out."""
    if isnan(value):
        return Reading(reason=reason)
    return Reading(value=value, low=None if isnan(low) else low, high=None if isnan(high) else high, n=n)


def null_of(scores: Scores, parts: Cast) -> str:
    """Returns in words what real methods were compared with."""
    found = nulls(scores, parts)
    matched = sum(null != (parts.random,) for null in found.values())
    if matched in (0, len(found)):
        return "its own scores, shuffled" if matched else "random"
    return f"its own scores, shuffled, for {matched} of {len(found)} methods; else random"


def place(scores: Scores, parts: Cast, best_there_is: str | None) -> tuple[str | None, Reading]:
    """Returns the best real method and where its mean lies between random's (0) and the oracle's (1)."""
    for what, name in (("random", parts.random), ("greedy_oracle", best_there_is)):
        if not scores.has(name):
            return None, Reading(reason=scores.why(what, name))
    floor, ceiling = scores.of(parts.random), scores.of(best_there_is)
    known = ~np.isnan(floor) & ~np.isnan(ceiling)
    names = [name for name in parts.real if known.any() and not np.isnan(scores.of(name)[known]).any()]
    if not names:
        return None, Reading(reason="no real method is scored on the same examples as random and the oracle")
    best = max(names, key=lambda name: float(scores.of(name)[known].mean()))
    above, room = scores.of(best)[known] - floor[known], ceiling[known] - floor[known]
    if room.mean() <= 0:
        return best, Reading(reason="the oracle scores no better than random: it descends another curve")
    value, low, high = ratio_interval(above, room)
    if isnan(low):
        return best, Reading(reason="the oracle is too near random: the ratio could be anything")
    return best, reading(value, low, high, len(room))


def told_apart(scores: Scores, parts: Cast, chosen: Sequence[int] | None = None) -> Reading:
    """Returns the share of pairs of real methods that are told apart (Holm), on all or some of the examples."""
    names = scores.among(parts.real)
    if len(names) < 2:
        return Reading(reason="fewer than two real methods")
    values = np.stack([scores.of(name) for name in names], axis=1)
    values = values if chosen is None else values[chosen]
    apart = separated(values, higher_is_better=True).sum()
    return Reading(value=float(apart) / (len(names) * (len(names) - 1) / 2), n=len(values))


def told_apart_by_few(scores: Scores, parts: Cast) -> Reading:
    """Returns the same on 32 examples, mean over ten random choices of them."""
    n = len(scores.examples)
    if n <= FEW:
        return Reading(reason=f"the run has no more than {FEW} examples")
    rng = np.random.default_rng(n)
    drawn = [told_apart(scores, parts, rng.permutation(n)[:FEW].tolist()) for _ in range(_SAMPLES)]
    values = [one.value for one in drawn if one.value is not None]
    return Reading(value=float(np.mean(values)), n=FEW) if values else drawn[0]
