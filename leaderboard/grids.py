"""The tables of a board as plain text, before any format escapes them: means, strata and ranks over blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan

from attrlab.leaderboard.board import Board, Column
from attrlab.leaderboard.comparisons import ALPHA, SMALLEST_EFFECT, detectable
from attrlab.leaderboard.judged import trusted
from attrlab.leaderboard.judged_verdict import DIAGNOSTIC
from attrlab.leaderboard.overall import Overall, overalls
from attrlab.leaderboard.strata import Part
from attrlab.leaderboard.tables import Table, arrow, heading, names, numbers, tables

LETTERS = (
    "Methods that share a letter are not told apart (sign-flip tests, Holm's correction over all pairs of a column, "
    f"p < {ALPHA} and |d_z| at least {SMALLEST_EFFECT}).",
    "Ranks go from 1 plus the methods that are significantly better to the number of ranked methods less those that "
    "are significantly worse; methods with gaps have none.",
)
NONE = "\N{EN DASH}"

_AGGREGATES = (
    "Blocks share texts or models: they are not independent, as p and the critical difference assume.",
    "Beaten: methods that are significantly worse, summed over blocks.",
    "Robust: average rank and Borda count, which always agree, and Bradley-Terry strength give a method one place, and "
    "it keeps it without any one data set, model or metric.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One table.

    Attributes:
        title: Of what; empty where it goes with the table before.
        caption: What its numbers are, by sentence.
        heads: Heading of each column.
        rows: As many texts each as there are headings.
        notes: What has no value and why.
    """

    title: str
    caption: tuple[str, ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def grids(board: Board, timings: bool = True) -> Iterator[Grid]:
    """Yields for each model and data set its means and strata, then the ranks over blocks."""
    for table in tables(board, timings):
        yield _means(table)
        judged = quality(table)
        if any(table.strata(method.name, column).parts() for method in table.methods for column in judged):
            yield _strata(table, judged)
    for found in overalls(board):
        yield _overall(board, found)


def aggregates(board: Board) -> tuple[str, ...]:
    """Returns what must be known of every :class:`~attrlab.leaderboard.overall.Overall`, by sentence."""
    kept = trusted(board)
    barred = ", ".join(heading(board, column) for column in board.columns if column not in kept)
    told = f"Left out, as they hardly tell methods from chance (diagnosticity below {DIAGNOSTIC}): {barred}."
    return (*_AGGREGATES, told) if barred else _AGGREGATES


def quality(table: Table) -> list[Column]:
    """Returns the columns of a table that are no costs."""
    return [column for column in table.columns if table.board.metric(column.metric).family != "cost"]


def caption(table: Table) -> tuple[str, ...]:
    """Returns what the numbers of a table are, by sentence."""
    suite = table.board.suite
    ranks = any(table.standing(method.name, column) for method in table.methods for column in table.columns)
    effects = table.effects()
    return (
        f"Suite {suite.name}, unit {suite.unit}, {table.dataset.n_used} of {table.dataset.n_total} examples, "
        f"seed {suite.seed}{'' if suite.precision == 'float32' else f', answers in {suite.precision}'}.",
        f"Mean [95 % bootstrap interval]{'; rank and letters' if ranks else ''}.",
        *([f"{table.board.floor} is the floor."] if table.board.floor else []),
        *(LETTERS if ranks else ()),
        *([f"Smallest d_z that one test finds with probability 0.8: {effects}."] if effects else []),
    )


def _means(table: Table) -> Grid:
    heads = [f"{heading(table.board, column)} {arrow(table.board, column)}" for column in table.columns]
    return Grid(
        title=f"{table.dataset.name}, {table.model.name}",
        caption=caption(table),
        heads=("method", *heads),
        rows=tuple(
            (method.name, *(table.entry(method.name, column) for column in table.columns)) for method in table.methods
        ),
        notes=tuple(table.notes()),
    )


def _strata(table: Table, columns: Sequence[Column]) -> Grid:
    heads = [f"{heading(table.board, column)} {arrow(table.board, column)}" for column in columns]
    parts = [largest(table, column) for column in columns]
    return Grid(
        title="",
        caption=(
            f"Means by {by(table.board)}: {strata_names(table)}.",
            "The first rows are the number of examples and the smallest d_z that one test finds in as many.",
        ),
        heads=("method", *heads),
        rows=(
            ("n", *(" / ".join(str(part.n) for part in own) for own in parts)),
            ("d_z", *(" / ".join(effect(part.n) for part in own) for own in parts)),
            *((method.name, *(strata(table, method.name, column) for column in columns)) for method in table.methods),
        ),
    )


def by(board: Board) -> str:
    """Returns what strata go by."""
    predicted = board.suite.explain.get("target", "predicted") == "predicted"
    return f"{'predicted' if predicted else 'explained'} class and by whether the model is right"


def strata_names(table: Table) -> str:
    """Returns the names of the strata in the order of their numbers."""
    parts = (table.strata(method.name, column).parts() for method in table.methods for column in table.columns)
    return " / ".join(name for name, _ in max(parts, key=len, default=[]))


def largest(table: Table, column: Column) -> list[Part]:
    """Returns the strata of the method with the most scored examples in a column."""
    found = [table.strata(method.name, column) for method in table.methods]
    most = max(found, key=lambda one: sum(part.n for _, part in one.parts()))
    return [part for _, part in most.parts()]


def effect(n: int) -> str:
    """Returns the smallest d_z that one test finds at ``n`` examples, or a dash."""
    return f"{detectable(n):.2f}" if n > 2 else NONE


def strata(table: Table, method: str, column: Column) -> str:
    """Returns the means of one cell by stratum; empty without any."""
    parts = [part.mean for _, part in table.strata(method, column).parts()]
    told = iter(numbers([mean for mean in parts if mean is not None] or [0.0]))
    texts = [NONE if mean is None else next(told) for mean in parts]
    return " / ".join(texts) if any(mean is not None for mean in parts) else ""


OVERALL = ("method", "average rank", "Borda", "Bradley-Terry", "robust", "beaten", "beaten by")
"""What stands in each column of :func:`overall_rows`."""


def overall_rows(found: Overall) -> list[tuple[str, ...]]:
    """Returns the aggregates of each method in words; the last two count other methods over all blocks."""
    rows: list[tuple[str, ...]] = []
    for i, method in enumerate(found.methods):
        strength, low, high = found.strengths[i].tolist()
        rows.append(
            (
                method,
                f"{found.average[i]:.2f}",
                f"{found.borda[i]:g}",
                f"{strength:.2f} [{low:.2f}, {high:.2f}]" if not isnan(strength) else NONE,
                "yes" if found.robust[i] else "no",
                f"{found.wins[i].sum()}",
                f"{found.wins[:, i].sum()}",
            )
        )
    return rows


def overall_title(board: Board, found: Overall) -> str:
    """Returns by what methods are ranked, and in how many blocks."""
    return f"{names(board, found.columns)}: ranks over {found.blocks} blocks"


def overall_tests(found: Overall) -> str:
    """Returns Friedman's p and Nemenyi's difference, or why there are none."""
    if isnan(found.p):
        return "Fewer than 6 blocks: not tested."
    p = "< 0.0001" if found.p < 0.0001 else f"= {found.p:.4f}"
    return f"Friedman p {p}; Nemenyi critical difference of average ranks {found.difference:.2f}."


def overall_notes(found: Overall) -> tuple[str, ...]:
    """Returns what must be known of these aggregates beside :func:`aggregates`, by sentence."""
    left = [f"Not ranked in every block: {', '.join(found.left_out)}."] if found.left_out else []
    return overall_tests(found), f"A method meets {found.blocks * (len(found.methods) - 1)} others.", *left


def _overall(board: Board, found: Overall) -> Grid:
    return Grid(
        title=overall_title(board, found),
        caption=(*overall_notes(found), *aggregates(board)),
        heads=OVERALL,
        rows=tuple(overall_rows(found)),
    )
