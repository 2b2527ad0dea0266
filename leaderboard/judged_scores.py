"""What a metric makes of explanations whose order is known, example by example.

Only the order of scores on one example is looked at: whatever increasing function is applied to a metric, all of it
stays as it is. Scores are oriented, higher is better; shares are 1 if the metric is right, 0 if it is wrong and 1/2 if
it tells nothing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise, product

import numpy as np

from attrlab.bench.types import Floats
from attrlab.leaderboard.board import Board, Column, MethodCard
from attrlab.leaderboard.ranks import block_ranks

_OF, _SHARE = "leave_one_out", 1.0  # parameters that a card leaves out at these values

_FEWEST_RUNGS = 3  # the explanation as it is among them: two are a single comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """An explanation and the degraded ones made of it.

    Attributes:
        method: Name of the method.
        operator: Removal operator under which it asks, None if it looks inside the model.
        rungs: Share of words whose scores changed places, 0 first, with the names of the methods that do so.
    """

    method: str
    operator: str | None
    rungs: tuple[tuple[float, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who plays which part in a run; methods that are no controls are the real ones.

    Attributes:
        real: Names of the real methods.
        random: Name of the random method, or None.
        cheater: Name of the one that gives the predicted class away, or None.
        twins: By real method, those that deal all of its scores out anew.
        ladders: The ladders of three rungs and more.
    """

    real: tuple[str, ...]
    random: str | None
    cheater: str | None
    twins: dict[str, tuple[str, ...]]
    ladders: tuple[Ladder, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """One column on one model and data set.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set part.
        column: Metric, operator and unit.
        sign: 1 where higher is better, else -1: times this, ``values`` are the metric's own.
        methods: Names.
        examples: Ids.
        values: Oriented scores, ``(n_examples, n_methods)``, NaN where there is none.
        skipped: Why a method was not scored at all, by its name.
    """

    model: str
    dataset: str
    column: Column
    sign: int
    methods: tuple[str, ...]
    examples: tuple[str, ...]
    values: Floats
    skipped: dict[str, str] = field(default_factory=dict)

    def of(self, method: str | None) -> Floats:
        """Returns the scores of a method, ``(n_examples,)``, all NaN if it was not run here."""
        if method not in self.methods:
            return np.full(len(self.examples), np.nan)
        found: Floats = self.values[:, self.methods.index(method)]
        return found

    def has(self, method: str | None) -> bool:
        """Returns whether a method has any score."""
        return not np.isnan(self.of(method)).all()

    def why(self, what: str, method: str | None) -> str:
        """Returns why a method has no score, ``what`` being what it is called where the run has none."""
        if method is None:
            return f"the run has no {what}"
        return f"{method}: {self.skipped.get(method, 'not run here')}"

    def among(self, methods: Iterable[str]) -> tuple[str, ...]:
        """Returns which of some methods have any score, in their order."""
        return tuple(name for name in methods if self.has(name))


@lru_cache(maxsize=1)
def cast(board: Board) -> Cast:
    """Returns who plays which part in a run."""
    made = [card for card in board.methods if card.id == "degraded"]
    ladders, twins = [], {}
    for method in board.methods:
        own: dict[float, list[str]] = {}
        for card in made:
            if _is(method, str(card.params.get("of", _OF))):
                own.setdefault(float(card.params.get("share", _SHARE)), []).append(card.name)
        rungs = ((0.0, (method.name,)), *((share, tuple(own[share])) for share in sorted(own)))
        if len(rungs) >= _FEWEST_RUNGS:
            ladders.append(Ladder(method=method.name, operator=operator_of(board, method), rungs=rungs))
        if 1.0 in own:
            twins[method.name] = tuple(own[1.0])
    return Cast(
        real=tuple(card.name for card in board.methods if card.family != "control"),
        random=board.floor,
        cheater=next((card.name for card in board.methods if card.id == "label_leak"), None),
        twins=twins,
        ladders=tuple(ladders),
    )


def _is(card: MethodCard, text: str) -> bool:
    """Returns whether a method is the one that a parameter names, as in ``lime:samples=200;kernel_width=9``.

    >>> _is(MethodCard(name="lime:samples=200", id="lime", params={"samples": 200}), "lime:samples=2e2")
    True
    """
    if text.replace(";", ",") == card.name:
        return True
    name, settings = re.fullmatch(r"(.*?)(?::([A-Za-z_]\w*=.*))?", text, re.DOTALL).groups()  # type: ignore[union-attr]
    given = dict(part.split("=", 1) for part in (settings or "").split(";") if "=" in part)
    return card.id == name and _plain(given) == _plain(card.params)


def _plain(params: Mapping[str, object]) -> dict[str, object]:
    def plain(value: object) -> object:
        try:
            return value if isinstance(value, bool) else float(str(value))
        except ValueError:
            return {"true": True, "false": False}.get(str(value), str(value))

    return {name: plain(value) for name, value in params.items()}


def oracle(board: Board, column: Column) -> str | None:
    """Returns the greedy oracle that descends under the column's own operator, else the first one, or None."""
    found = [card for card in board.methods if card.id == "greedy_oracle"]
    fitting = (card.name for card in found if column.operator in (None, operator_of(board, card)))
    return next(fitting, found[0].name if found else None)


def operator_of(board: Board, card: MethodCard) -> str | None:
    """Returns the removal operator under which a method asks; None for one that looks inside the model.

    What needs nothing but answers asks under its parameter ``operator``, or under the suite's.
    """
    if card.needs:
        return None
    return str(card.params.get("operator") or board.suite.explain.get("operator") or "") or None


def mean(values: Floats, axis: int) -> Floats:
    """Returns the mean over what is not NaN, NaN where all is.

    >>> mean(np.array([[1.0, np.nan], [2.0, np.nan]]), axis=0).tolist()
    [1.5, nan]
    """
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis)
    return found


def wins(first: Floats, second: Floats) -> Floats:
    """Returns 1 where the first is better, 0 where the second is, 1/2 where they tie, NaN where one has no score.

    >>> wins(np.array([1.0, 1.0, 1.0, np.nan]), np.array([0.0, 1.0, 2.0, 0.0])).tolist()
    [1.0, 0.5, 0.0, nan]
    """
    found: Floats = (1 + np.sign(first - second)) / 2
    return found


def won(scores: Scores, first: Sequence[str], second: Sequence[str]) -> Floats:
    """Returns how often any of the first methods beats any of the second, per example, ``(n_examples,)``."""
    pairs = [wins(scores.of(one), scores.of(other)) for one, other in product(first, second)]
    return mean(np.stack(pairs), axis=0)


def nulls(scores: Scores, parts: Cast) -> dict[str, tuple[str, ...]]:
    """Returns what each real method is compared with: its own scores dealt out anew where that ran, else random."""
    found = {}
    for name in scores.among(parts.real):
        null = scores.among(parts.twins.get(name, ())) or scores.among([parts.random] if parts.random else [])
        if null:
            found[name] = null
    return found


def diagnosticity(scores: Scores, parts: Cast) -> Floats:
    """Returns the share of real methods that score better than knowing nothing, per example, ``(n_examples,)``.

    Range [0, 1], higher is better; NaN where there is nothing to compare. Source: Chan et al. 2022, arXiv 2204.05514,
    the share of (explanation, random explanation) pairs that a metric orders rightly; against :func:`nulls`.
    """
    found = [won(scores, [name], null) for name, null in nulls(scores, parts).items()]
    return mean(np.stack([*found, np.full(len(scores.examples), np.nan)]), axis=0)


def fitting(scores: Scores, parts: Cast) -> list[Ladder]:
    """Returns the ladders that a metric is to put in order, every rung of which it scores.

    An explanation that asks under another removal operator may be no better than its degraded ones under this one: it
    counts only where no other does.
    """
    known = [one for one in parts.ladders if all(scores.has(name) for _, names in one.rungs for name in names)]
    alike = [one for one in known if scores.column.operator is None or one.operator in (None, scores.column.operator)]
    return alike or known


def ladder(scores: Scores, rungs: Ladder) -> Floats:
    """Returns the share of neighbouring rungs that are in order, per example, ``(n_examples,)``.

    Range [0, 1], higher is better; draws of one rung are compared each with each.
    """
    return mean(np.stack([won(scores, upper, lower) for (_, upper), (_, lower) in pairwise(rungs.rungs)]), axis=0)


def ladder_rank(scores: Scores, rungs: Ladder) -> Floats:
    """Returns Spearman's correlation of score and share of scores in their place, per example, ``(n_examples,)``.

    Range [-1, 1], higher is better; 0 where all rungs score alike, NaN where one has no score.
    """
    names = [(share, name) for share, own in rungs.rungs for name in own]
    table = np.stack([scores.of(name) for _, name in names], axis=1)
    found = np.full(len(table), np.nan)
    known = ~np.isnan(table).any(axis=1)
    shares = block_ranks(np.array([[share for share, _ in names]]), higher_is_better=False)
    found[known] = correlation(block_ranks(table, higher_is_better=True), np.repeat(shares, known.sum(), axis=0))
    return found


def correlation(first: Floats, second: Floats) -> Floats:
    """Returns Pearson's correlation of each row of two tables, 0 where a row of either does not vary.

    >>> correlation(np.array([[1.0, 2.0], [1.0, 1.0]]), np.array([[5.0, 9.0], [1.0, 2.0]])).tolist()
    [1.0, 0.0]
    """
    first, second = (part - part.mean(axis=1, keepdims=True) for part in (first, second))
    sizes = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    flat = sizes < 1e-12  # ranks differ by 1/2 at least
    found: Floats = np.where(flat, 0.0, (first * second).sum(axis=1) / np.where(flat, 1.0, sizes))
    return found.clip(-1.0, 1.0)


def cheating(scores: Scores, parts: Cast) -> Floats:
    """Returns how often the cheater beats random, per example, ``(n_examples,)``: 1/2 is what it deserves."""
    return wins(scores.of(parts.cheater), scores.of(parts.random))
