"""Spans: are the phrases that an explanation picks those that people marked?

Source: DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models", section 5.1 (IOU F1);
metrics spec 4.2.
"""

from abc import abstractmethod

import numpy as np

from attrlab.bench.types import Case, Floats, Ints
from attrlab.metrics.annotators import CHOICES
from attrlab.metrics.plausibility import Selecting

MATCH = 0.5
"""Smallest intersection over union at which two spans are the same phrase."""

Spans = list[tuple[int, int]]
"""Half-open ranges of units, in order."""


def runs(units: Ints, texts: Ints | None = None) -> Spans:
    """Returns the spans of consecutive units that lie in one text.

    Args:
        units: Indices in ascending order.
        texts: The text of every unit, ``(n_units,)``; None where there is one.

    >>> runs(np.array([0, 1, 3, 4, 5])), runs(np.array([0, 1]), np.array([0, 1]))
    ([(0, 2), (3, 6)], [(0, 1), (1, 2)])
    """
    apart = np.diff(units) > 1
    if texts is not None:
        apart = apart | (np.diff(texts[units]) != 0)
    parts = np.split(units, np.flatnonzero(apart) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]


def matched(predicted: Spans, gold: Spans) -> int:
    """Returns how many predicted spans share at least half of their union with a gold span.

    Spans of one list do not touch, so each is matched by at most one of the other list: counted from either side, the
    number is the same.

    >>> matched([(0, 2), (5, 6)], [(0, 3), (7, 9)])  # 2/3, 0
    1
    """
    found = 0
    for start, end in predicted:
        common = [max(0, min(end, stop) - max(start, first)) for first, stop in gold]
        sizes = [(end - start) + (stop - first) for first, stop in gold]
        found += any(part >= MATCH * (size - part) for part, size in zip(common, sizes, strict=True))
    return found


class _Spans(Selecting):
    """Base of the three: counts spans."""

    merges = tuple(choice for choice in CHOICES if choice != "soft")

    def of(self, chosen: Ints, target: Floats, case: Case) -> float:
        """Returns the value of the spans of the chosen units."""
        predicted, gold = runs(chosen, case.texts), runs(np.flatnonzero(target), case.texts)
        return self.ratio(matched(predicted, gold), len(predicted), len(gold))

    @abstractmethod
    def ratio(self, hits: int, predicted: int, gold: int) -> float:
        """Returns the value, given the numbers of matched, predicted and gold spans; of the last two at least one."""


class IouF1(_Spans):
    """Scores the F1 between the spans of the k top-ranked units and the marked spans, matched at half their union.

    ``F1 = 2 n / (|S| + |G|)``, where S and G are the runs of neighbouring top-ranked and marked units, and n counts the
    spans s with ``max over g of |s and g| / |s or g| >= 1/2``. Higher is better. Range [0, 1]. The mean over examples
    is not ERASER's macro F1, which is the F1 of the mean precision and mean recall: make it from
    :class:`IouPrecision` and :class:`IouRecall`. Runs end where a text ends. Ties, many after the cut at 0, break runs
    apart at random and are averaged over the tie orders; undefined as in
    :class:`attrlab.metrics.plausibility.TokenF1`. Arguments as in :class:`attrlab.metrics.plausibility.Selecting`,
    without soft targets, which have no spans. Source: ERASER, section 5.1; metrics spec 4.2.
    """

    def ratio(self, hits: int, predicted: int, gold: int) -> float:
        """Returns the F1."""
        return 2 * hits / (predicted + gold)


class IouPrecision(_Spans):
    """Scores the share of the spans of the k top-ranked units that match a marked span.

    ``P = n / |S|``, otherwise as :class:`IouF1`. Higher is better. Range [0, 1].
    Source: ERASER, section 5.1; metrics spec 4.2.
    """

    def ratio(self, hits: int, predicted: int, gold: int) -> float:
        """Returns the precision."""
        return hits / predicted


class IouRecall(_Spans):
    """Scores the share of the marked spans that a span of the k top-ranked units matches.

    ``R = n / |G|``, otherwise as :class:`IouF1`. Higher is better. Range [0, 1].
    Source: ERASER, section 5.1; metrics spec 4.2.
    """

    def ratio(self, hits: int, predicted: int, gold: int) -> float:
        """Returns the recall."""
        return hits / gold
