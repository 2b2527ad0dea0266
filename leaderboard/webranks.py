"""What the page shows of ranks and strata: per model, and over models and data sets."""

from collections.abc import Sequence
from typing import Any

from attrlab.leaderboard.board import Board, Column
from attrlab.leaderboard.grids import (
    OVERALL,
    by,
    effect,
    largest,
    overall_notes,
    overall_rows,
    overall_title,
    quality,
    strata,
    strata_names,
)
from attrlab.leaderboard.overall import Overall, overalls
from attrlab.leaderboard.strata import Part
from attrlab.leaderboard.tables import Table, arrow, families, setting

_MINUS = str.maketrans("-", "\N{MINUS SIGN}")
_MATRIX = 16  # methods up to which it is shown who beats whom: the page stays small


def ranking(table: Table) -> dict[str, Any] | None:
    """Returns ranks and letters of each method in each column that ranks methods; None without any."""
    found = {(method.name, c): table.standing(method.name, c) for method in table.methods for c in table.columns}
    ranked = [c for c in table.columns if any(found[method.name, c] for method in table.methods)]
    if not ranked:
        return None
    grouped, columns = _grouped(table.board, ranked)
    most = [max(table.cell(method.name, column).n_scored for method in table.methods) for column in columns]
    return {
        "families": grouped,
        "heads": [_head(table, column, [Part(None, n)]) for column, n in zip(columns, most, strict=True)],
        "rows": [(method.name, [found[method.name, column] for column in columns]) for method in table.methods],
    }


def _head(table: Table, column: Column, parts: Sequence[Part]) -> dict[str, Any]:
    ns = " / ".join(str(part.n) for part in parts)
    effects = " / ".join(effect(part.n) for part in parts)
    return {
        "name": column.metric,
        "arrow": arrow(table.board, column),
        "lines": [setting(table.board, column) or "\N{NO-BREAK SPACE}", f"n {ns}", f"d {effects}"],
    }


def by_stratum(table: Table) -> dict[str, Any] | None:
    """Returns the means by predicted class and by whether the model is right; None without any."""
    names = strata_names(table)
    if not names:
        return None
    grouped, columns = _grouped(table.board, quality(table))
    return {
        "by": by(table.board),
        "names": names,
        "families": grouped,
        "heads": [_head(table, column, largest(table, column)) for column in columns],
        "rows": [
            (method.name, [strata(table, method.name, column).translate(_MINUS) for column in columns])
            for method in table.methods
        ],
    }


def _grouped(board: Board, columns: list[Column]) -> tuple[list[tuple[str, int]], list[Column]]:
    grouped = families(board, columns)
    return [(name, len(members)) for name, members in grouped], [one for _, members in grouped for one in members]


def over_blocks(board: Board) -> list[tuple[str, list[dict[str, Any]]]]:
    """Returns the aggregates over models and data sets by family of metrics."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in overalls(board):
        found.setdefault(one.name, []).append(_aggregate(board, one))
    return list(found.items())


def _aggregate(board: Board, found: Overall) -> dict[str, Any]:
    return {
        "title": overall_title(board, found),
        "notes": overall_notes(found),
        "heads": OVERALL,
        "rows": overall_rows(found),
        "wins": found.wins.tolist() if len(found.methods) <= _MATRIX else [],
    }
