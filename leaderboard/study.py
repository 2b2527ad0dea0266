"""The study of lambda: what is stored, the curves with their intervals, and what they say about the source's claim.

The claim (figure 4 of the source): damage M against the weight lambda is U-shaped, lowest near 0.6. Exact optima cannot
do that: M does not fall as lambda grows (methods spec 1.3). Every sentence made here is made from stored numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attrlab.bench.types import Floats
from attrlab.leaderboard.board import DatasetCard, ModelCard, Provenance
from attrlab.leaderboard.decode import decode, load_json
from attrlab.leaderboard.statistics import intervals

CLAIMED = 0.6
"""Weight at which the source finds the least damage, on its own scale."""

OPTIMUM = 0
"""``unfinished`` of points that are optima."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How the study was done.

    Attributes:
        lams: Weights, ascending.
        limit: Sentences asked for.
        seeds: Repetitions.
        preset: Budget; ``draws`` per step and ``steps`` are its.
        unfinished: Steps of the curves that were stopped early.
        fresh: Draws on which M was measured, per seed.
        usual: The weight that co-perturbation has by default.
        shrink: Weight of the gradient's length in its score.
        text: The user's text, and the two words ``pair`` followed in it.
    """

    lams: tuple[float, ...]
    limit: int
    seeds: int
    preset: str
    draws: int
    steps: int
    unfinished: tuple[int, ...]
    fresh: int
    usual: float
    shrink: float
    text: str | None = None
    pair: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence: its planted words, and the designated pair of a planted and another word."""

    id: str
    text: str
    words: int
    planted: tuple[str, ...]
    pair: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Point:
    """What was measured at one weight of one curve with one seed; one number per sentence in each measure."""

    unfinished: int
    lam: float
    seed: int
    damage: Floats
    entropy: Floats
    capped: Floats
    collapsed: Floats
    kkt: Floats
    moved: Floats
    recall: Floats
    recall_rho: Floats
    planted: Floats
    ordinary: Floats
    ordered: Floats
    floor: Floats
    scale: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Studied:
    """One model under all weights."""

    card: ModelCard
    sentences: tuple[Sentence, ...]
    points: tuple[Point, ...]
    text_points: tuple[Point, ...] = ()

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def claimed(self) -> float:
        """The source's weight on our scale, averaged over sentences (methods spec 1.3)."""
        return CLAIMED * float(np.mean([point.scale for point in self.points]))

    @property
    def chance(self) -> float:
        """Planted recall of a random order."""
        return float(np.mean([len(sentence.planted) / sentence.words for sentence in self.sentences]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """Everything that was stored."""

    setup: Setup
    dataset: DatasetCard
    models: tuple[Studied, ...]
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One measure against lambda.

    Attributes:
        lams: The weights, ascending.
        values: One row per sentence, averaged over seeds, (or per seed for a single text); one column per weight.
        mean: Mean of each column.
        low: Lower end of its 95 % bootstrap interval over sentences (for a single text: least over seeds).
        high: Upper end.
    """

    lams: Floats
    values: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Mean over sentences of what a measure gains from one weight to another, with its 95 % interval."""

    start: float
    end: float
    mean: float
    low: float
    high: float

    @property
    def rises(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    @property
    def falls(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """The shape of M against lambda.

    Attributes:
        curve: The curve.
        shape: ``u``: falls to its lowest mean inside the grid and rises from there to the end, both beyond their
            intervals; else ``falls``: some step to the next weight does; else ``rises``: the end is above the
            start; else ``flat``.
        lowest: Weight of the lowest mean.
        whole: From the first weight to the last.
        falls: Steps to the next weight that fall beyond their interval.
        drop: From the first weight to the lowest.
        climb: From the lowest to the last.
    """

    curve: Curve
    shape: str
    lowest: float
    whole: Change
    falls: tuple[Change, ...]
    drop: Change
    climb: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was measured about the choice of lambda for one model.

    Attributes:
        kept: Weights at which no sentence collapsed.
        good: Those of them at which planted recall is not below its best beyond the interval of the difference.
        best: Weight of the best mean recall, and that recall.
    """

    kept: tuple[float, ...]
    good: tuple[float, ...]
    best: tuple[float, float]


def read(path: Path) -> Study:
    """Returns a stored study, every field checked.

    Raises:
        UserError: If the file is broken or of another schema.
    """
    return decode(Study, load_json(path), str(path))


def curve(model: Studied, measure: str, unfinished: int = OPTIMUM) -> Curve:
    """Returns a measure of one model against lambda, with intervals over sentences."""
    lams, values = _table(model.points, measure, unfinished)
    averaged = values.mean(axis=1).T
    ends = intervals(averaged)
    return Curve(lams=lams, values=averaged, mean=averaged.mean(axis=0), low=ends[:, 0], high=ends[:, 1])


def text_curve(model: Studied, measure: str) -> Curve:
    """Returns a measure of the user's text at the optimum against lambda, with its range over seeds."""
    lams, values = _table(model.text_points, measure, OPTIMUM)
    seeds = values[:, :, 0].T
    return Curve(lams=lams, values=seeds, mean=seeds.mean(axis=0), low=seeds.min(axis=0), high=seeds.max(axis=0))


def _table(points: Sequence[Point], measure: str, unfinished: int) -> tuple[Floats, Floats]:
    """Returns the weights, and the values by weight, seed and sentence."""
    own = [point for point in points if point.unfinished == unfinished]
    lams = sorted({point.lam for point in own})
    seeds = sorted({point.seed for point in own})
    found = {(point.lam, point.seed): getattr(point, measure) for point in own}
    return np.array(lams), np.array([[found[lam, seed] for seed in seeds] for lam in lams])


def change(of: Curve, start: int, end: int) -> Change:
    """Returns the paired change of a curve from one of its weights to another, by index."""
    gained = of.values[:, end] - of.values[:, start]
    low, high = intervals(gained[:, None])[0]
    return Change(
        start=float(of.lams[start]),
        end=float(of.lams[end]),
        mean=float(gained.mean()),
        low=float(low),
        high=float(high),
    )


def verdict(of: Curve) -> Verdict:
    """Returns the shape of a curve of M against lambda."""
    last, lowest = len(of.lams) - 1, int(of.mean.argmin())
    whole, drop, climb = change(of, 0, last), change(of, 0, lowest), change(of, lowest, last)
    falls = tuple(step for step in (change(of, i, i + 1) for i in range(last)) if step.falls)
    if 0 < lowest < last and drop.falls and climb.rises:
        shape = "u"
    else:
        shape = "falls" if falls else "rises" if whole.rises else "flat"
    return Verdict(
        curve=of, shape=shape, lowest=float(of.lams[lowest]), whole=whole, falls=falls, drop=drop, climb=climb
    )


def verdicts(study: Study, unfinished: int = OPTIMUM) -> list[Verdict]:
    """Returns the shape of M of every model."""
    return [verdict(curve(model, "damage", unfinished)) for model in study.models]


def choice(model: Studied) -> Choice:
    """Returns at which weights a model's optima are usable, and where planted recall is best."""
    recall, collapsed = curve(model, "recall"), curve(model, "collapsed")
    kept = [i for i in range(len(recall.lams)) if collapsed.mean[i] == 0]
    best = max(kept or range(len(recall.lams)), key=lambda i: float(recall.mean[i]))
    good = [i for i in kept if not change(recall, best, i).falls]
    return Choice(
        kept=tuple(float(recall.lams[i]) for i in kept),
        good=tuple(float(recall.lams[i]) for i in good),
        best=(float(recall.lams[best]), float(recall.mean[best])),
    )
