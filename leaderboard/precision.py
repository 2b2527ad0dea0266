"""What another numeric precision does to scores and ranks: two results folders that differ in nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from attrlab.bench.errors import UserError
from attrlab.bench.types import Floats
from attrlab.leaderboard.board import Board, Cell, Column
from attrlab.leaderboard.comparable import names
from attrlab.leaderboard.compare import Match, matches
from attrlab.leaderboard.comparisons import common
from attrlab.leaderboard.judged_ranks import kendall

LEGEND = (
    "Difference: the largest one; of a word's score as a share of the largest score of its text, of a metric in its "
    "units. Tau: Kendall's tau-b with the other precision's order, of the words of a text (mean and least over texts) "
    "or of the methods by their means; 1 is the same order. Texts whose explained class differs are left out of words."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """How far the scores of one method on the words of texts differ.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set part.
        method: Name of the method.
        n: Texts that both precisions explain, for the same class.
        other: Texts whose explained class differs; they are left out.
        largest: Largest difference of a word's score, as a share of the largest absolute score of its text; NaN if
            ``n`` is 0.
        mean_tau: Mean over texts of Kendall's tau-b between the scores, in [-1, 1]; NaN where no text has an order.
        least_tau: The least of them.
    """

    model: str
    dataset: str
    method: str
    n: int
    other: int
    largest: float
    mean_tau: float
    least_tau: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How far a metric's scores of all methods differ.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set part.
        column: Metric, operator and unit.
        n: Scores that both precisions have, of all methods.
        largest: Largest difference of the score of one text.
        mean: Largest difference of the mean of one method.
        tau: Kendall's tau-b between the methods' means; NaN below three methods, or where all are equal.
    """

    model: str
    dataset: str
    column: Column
    n: int
    largest: float
    mean: float
    tau: float


def effects(new: Board, old: Board) -> tuple[tuple[Explained, ...], tuple[Scored, ...]]:
    """Returns what another precision does to methods, and to metrics; what is measured on a machine is left out.

    Raises:
        UserError: If the folders have the same precision, or differ in anything else.
    """
    if new.suite.precision == old.suite.precision:
        raise UserError(
            f"both folders have precision {new.suite.precision!r}; run one of them with another --precision"
        )
    for what, ours, others in _settings(new, old):
        if ours != others:
            raise UserError(f"{what} is {ours!r} in the new and {others!r} in the old; let only --precision differ")
    theirs = names(old.methods)
    pairs = [(name, name) for name in names(new.methods) if name in theirs]
    families: dict[tuple[str, str, Column], list[Match]] = {}
    for match in matches(new, old, pairs, precision=False):
        if not match.metric.measured:
            families.setdefault(match.family, []).append(match)
    scored = (_scored(family) for family in families.values())
    return tuple(_explained(new, old)), tuple(one for one in scored if one.n)


def _settings(new: Board, old: Board) -> Iterator[tuple[str, object, object]]:
    """Yields what else would shape scores, with its value in both folders."""
    yield "the seed", new.suite.seed, old.suite.seed
    yield "[explain]", new.suite.explain, old.suite.explain
    yield "[re_explain]", new.suite.re_explain, old.suite.re_explain
    known = {card.name: card for card in old.methods}
    for card in new.methods:
        if card.name in known:
            yield f"the version of {card.name}", card.version, known[card.name].version
            yield f"the source of {card.name}", card.origin, known[card.name].origin


def _explained(new: Board, old: Board) -> Iterator[Explained]:
    found = {(cell.dataset, cell.model, cell.method): cell for cell in old.cells}
    for cell in new.cells:
        other = found.get((cell.dataset, cell.model, cell.method))
        if other is not None and cell.attributions and other.attributions:
            yield _beside(cell, other)


def _beside(new: Cell, old: Cell) -> Explained:
    targets = {row.example: row.target for row in old.predictions}
    asked = [row for row in new.predictions if row.example in targets]
    same = {row.example for row in asked if row.target == targets[row.example]}
    rows = {row.example: row.scores for row in old.attributions if row.scores is not None}
    pairs = [
        np.stack([row.scores, rows[row.example]])
        for row in new.attributions
        if row.scores is not None and row.example in rows and row.example in same and len(row.scores)
    ]
    taus = np.array([kendall(pair)[0, 1] for pair in pairs])
    known = taus[~np.isnan(taus)]
    return Explained(
        model=new.model,
        dataset=new.dataset,
        method=new.method,
        n=len(pairs),
        other=len(asked) - len(same),
        largest=max((_apart(pair) for pair in pairs), default=nan),
        mean_tau=float(known.mean()) if len(known) else nan,
        least_tau=float(known.min()) if len(known) else nan,
    )


def _apart(pair: Floats) -> float:
    largest = float(np.abs(pair).max())
    return float(np.abs(pair[0] - pair[1]).max()) / largest if largest else 0.0


def _scored(family: Sequence[Match]) -> Scored:
    values = [common([match.new, match.old])[1] for match in family]
    known = [one for one in values if len(one)]
    means = np.array([one.mean(axis=0) for one in known]).reshape(-1, 2)
    apart = [float(np.abs(one[:, 0] - one[:, 1]).max()) for one in known]
    first = family[0]
    return Scored(
        model=first.model,
        dataset=first.dataset,
        column=first.column,
        n=sum(map(len, known)),
        largest=max(apart, default=nan),
        mean=float(np.abs(means[:, 0] - means[:, 1]).max()) if known else nan,
        tau=float(kendall(means.T)[0, 1]) if known else nan,
    )


def terminal(new: Board, old: Board) -> RenderableType:
    """Returns the effects for the terminal, two tables for each model and data set."""
    methods, metrics = effects(new, old)
    parts: list[RenderableType] = []
    for block in dict.fromkeys((one.model, one.dataset) for one in methods):
        title = f"{' on '.join(block)}: {new.suite.precision} beside {old.suite.precision}"
        words = _grid(("words", "texts", "other class", "difference", "tau", "least tau"))
        for one in methods:
            if (one.model, one.dataset) == block:
                numbers = (f"{one.largest:.2g}", f"{one.mean_tau:.3f}", f"{one.least_tau:.2f}")
                words.add_row(*map(Text, (one.method, str(one.n), str(one.other), *numbers)))
        table = _grid(("metric", "scores", "difference", "of a mean", "tau"))
        for two in metrics:
            if (two.model, two.dataset) == block:
                metric = two.column.metric + (f" ({two.column.operator})" if two.column.operator else "")
                numbers = (f"{two.largest:.2g}", f"{two.mean:.2g}", f"{two.tau:.3f}")
                table.add_row(*map(Text, (metric, str(two.n), *numbers)))
        parts += [Text(title, style="bold"), words, table, Text()]
    return Group(*parts, Text(LEGEND, style="dim"))


def _grid(heads: Sequence[str]) -> Grid:
    grid = Grid(box=None, pad_edge=False)
    for index, head in enumerate(heads):
        grid.add_column(head, justify="right" if index else "left", overflow="fold")
    return grid
