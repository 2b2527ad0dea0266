"""Areas under the curves of a ranking against a target (metrics spec 4.3).

A target w, not all 0, holds per unit the share of positive, in [0, 1]: the unit counts as w positive and 1 - w negative
ones. Equal scores enter together. Each area is the number of scikit-learn with those weights.
"""

from typing import NamedTuple

import numpy as np

from attrlab.bench.types import Floats


class Curve(NamedTuple):
    """One point for each distinct score, highest first, each ``(n_points,)``.

    Attributes:
        hits: Sum of the target over the units with at least this score.
        units: Number of those units.
    """

    hits: Floats
    units: Floats


def curve(target: Floats, scores: Floats) -> Curve:
    """Returns the curve of scores ``(n_units,)`` against a target ``(n_units,)``.

    >>> curve(np.array([1.0, 0.0, 1.0]), np.array([3.0, 2.0, 2.0])).hits.tolist()
    [1.0, 2.0]
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # unit of each distinct score
    return Curve(np.cumsum(target[order])[last], last + 1.0)


def trapezoids(x: Floats, y: Floats, start: float) -> float:
    """Returns the area under straight lines from (0, start) through the points (x, y)."""
    heights = np.insert(y, 0, start)
    return float(np.sum(np.diff(x, prepend=0.0) * (heights[1:] + heights[:-1]) / 2))


def auprc(target: Floats, scores: Floats) -> float:
    """Returns the area under the precision-recall curve by trapezoids, in (0, 1], as ERASER computes it.

    The curve starts at (recall 0, precision 1). Scores that are all equal therefore get (1 + r) / 2, where r is the
    share of positive: much more than the r of a long random order. Read it beside that number.

    >>> auprc(np.array([1.0, 0, 0, 1]), np.array([4.0, 3, 2, 1]))  # .5 + .5 * (1/3 + 1/2) / 2
    0.7083333333333333
    """
    hits, units = curve(target, scores)
    return trapezoids(hits, hits / units, 1.0) / float(hits[-1])


def average_precision(target: Floats, scores: Floats) -> float:
    """Returns the mean precision at the positive, sum of (R_i - R_(i-1)) P_i, in (0, 1].

    >>> average_precision(np.array([1.0, 0, 0, 1]), np.array([4.0, 3, 2, 1]))  # (1/1 + 2/4) / 2
    0.75
    """
    hits, units = curve(target, scores)
    return float(np.sum(np.diff(hits, prepend=0.0) * hits / units) / hits[-1])


def auroc(target: Floats, scores: Floats) -> float:
    """Returns the share of pairs of a positive and a negative in which the positive scores higher, in [0, 1].

    Equal scores count half. The target must not be all 1.

    >>> auroc(np.array([1.0, 0, 0, 1]), np.array([4.0, 3, 2, 1]))
    0.5
    """
    hits, units = curve(target, scores)
    misses = units - hits
    return trapezoids(misses, hits, 0.0) / float(misses[-1] * hits[-1])
