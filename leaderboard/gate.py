"""A gate for continuous integration: did a method get worse than a stored baseline by more than a margin?

Every cell (model, data set, method, metric, operator) of the baseline whose metric has a direction, and is not measured
on a machine, is judged. ``H0: mean drop <= margin`` is tested one-sided on the examples that both runs scored; Holm's
correction over all judged cells keeps the probability that a method that did not drop fails *any* of them at alpha.
What crashed, is missing or lost its values fails whatever the others score.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, nan, sqrt

import numpy as np

from attrlab.bench.errors import UserError
from attrlab.bench.store import FAILED
from attrlab.bench.types import Floats
from attrlab.leaderboard.board import Board, MetricCard
from attrlab.leaderboard.comparable import both, names
from attrlab.leaderboard.compare import Match, absence, matches, paired_methods
from attrlab.leaderboard.comparisons import detectable, holm
from attrlab.leaderboard.flips import tail
from attrlab.leaderboard.paired import FLIPS, sign_flip_above
from attrlab.leaderboard.statistics import MISSING, brief

ALPHA = 0.01
"""Probability that a run without any drop beyond the margin fails."""

MARGIN = 0.01
"""Drop that is tolerated."""

POWER = 0.8
"""Probability with which the smallest detectable drop is found."""

_DRAWN = 1 / (1 + FLIPS)  # the smallest p of drawn flips; below, the bound of :func:`tail` counts, one-sided half

LOST = 0.05
"""Share of the baseline's scored examples that may be without a score, other than by failing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """What became of one cell.

    Attributes:
        match: The new run's column beside the baseline's.
        status: ``passed``, ``blind`` (too few examples: no drop, however large, could fail), ``dropped``, ``failed``
            (on an example that the baseline scored), ``missing`` or ``lost`` (has too few scores left).
        reason: Why, for all but ``passed`` and ``dropped``.
        n: Examples that both scored.
        n_baseline: Examples that the baseline scored.
        new: Mean of the new scores over the common examples, None if there are none.
        old: Mean of the baseline's.
        drop: Mean drop in the metric's units, positive for worse whatever the direction; None without examples.
        margin: Drop that is tolerated here, in the metric's units.
        p: One-sided p of ``drop <= margin``, None without examples.
        adjusted: p after Holm's correction over all cells.
        detectable: Drop that is found with 80 % probability, at the spread of the drops seen; None below 3 examples.
    """

    match: Match
    status: str = "passed"
    reason: str | None = None
    n: int = 0
    n_baseline: int = 0
    new: float | None = None
    old: float | None = None
    drop: float | None = None
    margin: float = 0.0
    p: float | None = None
    adjusted: float | None = None
    detectable: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the cell lets the run pass."""
        return self.status in ("passed", "blind")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """All cells that were judged.

    Attributes:
        verdicts: One per cell, in the order of the tables.
        alpha: Level of the whole gate.
        margin: As it was given.
    """

    verdicts: tuple[Verdict, ...]
    alpha: float
    margin: float

    @property
    def failing(self) -> tuple[Verdict, ...]:
        """The cells that fail the gate."""
        return tuple(one for one in self.verdicts if not one.ok)


def gate(
    new: Board,
    baseline: Board,
    methods: Sequence[str] = (),
    metrics: Sequence[str] = (),
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
) -> Report:
    """Returns the verdict on every cell of the baseline that can be judged.

    Args:
        new: What is judged.
        baseline: What it must not fall behind.
        methods: ``NAME`` or ``NEW=BASELINE``; empty for all methods of the baseline.
        metrics: Names of metrics; empty for all of the baseline.
        margin: Tolerated drop, from 0, see :func:`tolerated`.
        alpha: Level of the whole gate, in (0, 0.25].

    Raises:
        UserError: If margin or alpha is out of range, the two are incomparable, the baseline is not whole, the new run
            was asked about fewer examples, or no cell has enough examples to fail.
    """
    if not 0 <= margin < inf or not 0 < alpha <= 0.25:
        raise UserError(f"margin {margin:g}, alpha {alpha:g}: give a margin from 0 and an alpha above 0, at most 0.25")
    if not methods and not set(names(new.methods)) & set(names(baseline.methods)):
        told = both(names(new.methods), names(baseline.methods))
        raise UserError(f"no method in common: {told}; pair them with --method NEW=OLD")
    pairs = paired_methods(new, baseline, methods) if methods else [(name, name) for name in names(baseline.methods)]
    judged = [match for match in matches(new, baseline, pairs, metrics) if _judged(match)]
    seen = [_seen(match, margin) for match in judged]
    able = [len(drops) > 2 and least_p(len(drops)) < alpha / len(seen) for _, drops in seen]
    found = [_tested(*one, alpha, sum(able)) if can else _blind(one[0]) for one, can in zip(seen, able, strict=True)]
    if not any(able) and all(one.ok for one in found):
        raise UserError(
            f"nothing to judge: of {len(seen)} cells of the baseline that have values and a direction, none has "
            f"examples enough to show a drop at alpha {alpha:g}; run both with a larger --limit"
        )
    adjusted = holm([nan if one.p is None else one.p for one in found]).tolist()
    return Report(
        verdicts=tuple(_decided(one, p, alpha) for one, p in zip(found, adjusted, strict=True)),
        alpha=alpha,
        margin=margin,
    )


def _judged(match: Match) -> bool:
    """Whether better and worse mean something here, and the baseline has something to fall behind."""
    if match.metric.measured or match.metric.higher_is_better is None:
        return False
    if match.old.reason == MISSING:
        raise UserError(f"the baseline is not whole: {_place(match)}: {MISSING}")
    return absence(match.old) is None


def _check(match: Match) -> None:
    """Raises if the new run was asked about fewer examples: that is no result but another question."""
    asked, theirs = set(match.new.examples), set(match.old.examples)
    if match.new.reason is None and not theirs <= asked:
        raise UserError(
            f"{_place(match)}: the new run was asked about {len(asked & theirs)} of the baseline's {len(theirs)} "
            "examples; run both with the same --limit and suite"
        )


def _place(match: Match) -> str:
    return f"{match.method} on {match.model}, {match.dataset}, {match.column.metric}"


def _seen(match: Match, margin: float) -> tuple[Verdict, Floats]:
    """Returns a cell as it is before any test, and the drop of each example that both scored."""
    _check(match)
    status, reason = _state(match)
    values = match.values()
    found = Verdict(
        match=match, status=status, reason=reason, n=len(values), n_baseline=int((~np.isnan(match.old.values)).sum())
    )
    if len(values) == 0:
        return found, np.zeros(0)
    new, old = values.T
    drops = old - new if match.metric.higher_is_better else new - old
    allowed = tolerated(match.metric, old, margin)
    seen = replace(found, margin=allowed, new=float(new.mean()), old=float(old.mean()), drop=float(drops.mean()))
    return seen, drops


def _blind(found: Verdict) -> Verdict:
    """Returns a cell with so few examples that all signs alike would not fail it; it is left out of the correction."""
    reason = f"{found.n} examples are too few for a drop to show"
    return replace(found, status="blind", reason=reason) if found.status == "passed" else found


def _tested(found: Verdict, drops: Floats, alpha: float, tests: int) -> Verdict:
    """Returns a cell with its test, one of so many, not yet corrected."""
    excess, spread = drops - found.margin, float(drops.std(ddof=1))
    p = sign_flip_above(excess)
    if p <= _DRAWN:  # as small as draws show
        p = min(p, tail(float(excess.sum() / np.sqrt((excess**2).sum()))) / 2)
    return replace(found, p=p, detectable=found.margin + detectable(found.n, alpha / tests, POWER, sides=1) * spread)


def least_p(n: int) -> float:
    """Returns the p that ``n`` examples give at best, all having dropped alike."""
    return max(0.5**n, min(_DRAWN, tail(sqrt(n)) / 2))


def tolerated(metric: MetricCard, baseline: Floats, margin: float) -> float:
    """Returns the drop that is tolerated, in the metric's units.

    The margin itself where the range is bounded and at most 2 wide; elsewhere it is a share of the baseline's mean
    absolute score (0.01 is one percent).
    """
    return margin if bounded(metric) else margin * float(np.abs(baseline).mean())


def bounded(metric: MetricCard) -> bool:
    """Returns whether the range of a metric is at most 2 wide, so that drops in its units compare with a margin."""
    low, high = metric.bounds
    return low is not None and high is not None and high - low <= 2


def _state(match: Match) -> tuple[str, str | None]:
    """Returns whether the new run has the scores that the baseline has, and why not."""
    if match.new.reason is not None:
        return "missing", brief(match.new.reason)
    lost = _lost(match)
    failures = [reason for reason in lost.values() if reason.startswith(FAILED)]
    if failures:
        return "failed", brief(f"{len(failures)} of {len(match.old.examples)}: {failures[0].removeprefix(FAILED)}")
    scored = int((~np.isnan(match.old.values)).sum())
    if len(lost) > LOST * scored or len(lost) == scored:
        return "lost", brief(f"{len(lost)} of {scored}: {next(iter(lost.values()))}")
    return "passed", None


def _lost(match: Match) -> dict[str, str]:
    """Returns why each example that the baseline scored has no score now; failures start with ``FAILED``."""
    had = {one for one, value in zip(match.old.examples, match.old.values, strict=True) if not np.isnan(value)}
    rows = {row.example: row for row in match.cell.attributions} if match.cell else {}
    lost = {}
    for example, value, told in zip(match.new.examples, match.new.values, match.new.reasons, strict=True):
        if example in had and np.isnan(value):
            row = rows.get(example)
            reason = told or (row and row.reason) or "no reason was recorded"
            failed = row is not None and row.status == "failed"
            lost[example] = FAILED + reason.removeprefix(FAILED) if failed else reason
    return lost


def _decided(found: Verdict, adjusted: float, alpha: float) -> Verdict:
    """Returns a cell with its corrected p, and ``dropped`` if that is below alpha and nothing worse befell it."""
    if found.p is None:
        return found
    dropped = found.status == "passed" and adjusted < alpha
    return replace(found, adjusted=adjusted, status="dropped" if dropped else found.status)
