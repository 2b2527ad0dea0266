"""Tables for the terminal: per data set and family of metrics, so that they fit and are never added up."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from attrlab.leaderboard.board import Board, Column, DatasetCard
from attrlab.leaderboard.tables import Summary, Table, arrow, families, heading, numbers, shown, summarise, tables

_PER_GRID = 2  # columns with intervals that 80 characters hold
_NAME = 20  # length of the longest name of a method up to which they hold ranks, too

_MARKS = {"better": ("▲", "green"), "worse": ("▽", "yellow"), "unclear": (" ", "default")}


def terminal(board: Board, detailed: bool = False) -> RenderableType:
    """Returns rich tables: per model where a data set has one, else an overview over its models.

    Args:
        board: What was read from a results folder.
        detailed: Show the table of every model instead of an overview.
    """
    found = tables(board)
    parts: list[RenderableType] = []
    for dataset, _ in board.blocks():
        own = [table for table in found if table.dataset == dataset]
        for table in own if detailed or len(own) == 1 else []:
            parts += _model(table)
        if len(own) > 1 and not detailed:
            parts += _overview(board, dataset, own)
    return Group(*parts, Text(_legend(board, found), style="dim"))


def _model(table: Table) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for family, columns in families(table.board, table.columns):
        for start in range(0, len(columns), _PER_GRID):
            pair = columns[start : start + _PER_GRID]
            grid = _grid(table.board, f"{table.dataset.name}  {table.model.name}  {family}", pair)
            for method in table.methods:
                cells = [_cell(table, method.name, column) for column in pair]
                grid.add_row(Text(method.name), *cells, style="dim" if method.name == table.floor else "")
            parts.append(grid)
    return [*parts, *(Text(note, style="dim") for note in table.notes()), Text()]


def _cell(table: Table, method: str, column: Column) -> Text:
    found = table.cell(method, column)
    if found.mean is None:
        return Text(found.status, style="red" if found.status == "failed" else "dim")
    mean, ends = shown(found)
    mark, style = _MARKS[table.verdict(found) or "unclear"]
    standing = table.standing(method, column) if max(len(one.name) for one in table.methods) <= _NAME else None
    rank = f" {standing.range}" if standing else ""
    return Text.assemble((mean, "bold"), " ", (mark, f"not bold {style}"), " ", (ends, "not bold dim"), rank)


def _overview(board: Board, dataset: DatasetCard, own: Sequence[Table]) -> list[RenderableType]:
    summaries = summarise(own)
    columns = [column for column in board.columns if any(column in table.columns for table in own)]
    parts: list[RenderableType] = []
    for family, members in families(board, columns):
        for start in range(0, len(members), _PER_GRID):
            pair = members[start : start + _PER_GRID]
            grid = _grid(board, f"{dataset.name}  {len(own)} models  {family}", pair)
            for method in board.ordered_methods():
                cells = [_counts(summaries.get((dataset.name, method.name, column)), len(own)) for column in pair]
                grid.add_row(Text(method.name), *cells, style="dim" if method.name == board.floor else "")
            parts.append(grid)
    return [*parts, Text()]


def _counts(summary: Summary | None, n_models: int) -> Text:
    if summary is None or summary.average is None:
        return Text("-", style="dim")
    text = Text(numbers([summary.average])[0])
    if summary.n_models < n_models:
        text.append(f" of {summary.n_models}", style="dim")
    if summary.compared:
        text.append(f"  {summary.better}/{summary.compared}", style="bold green" if summary.better else "dim")
    return text


def _grid(board: Board, title: str, columns: Sequence[Column]) -> Grid:
    grid = Grid(title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    grid.add_column("method", no_wrap=True)
    for column in columns:
        grid.add_column(Text(f"{heading(board, column)} {arrow(board, column)}"), justify="right", overflow="fold")
    return grid


def _legend(board: Board, found: list[Table]) -> str:
    parts = ["↑ higher is better, ↓ lower is better; intervals are 95 % bootstrap intervals over examples."]
    if len(found) > len(board.datasets):
        parts.append(
            "Overviews show the plain average over models, which ranks nothing, and in how many models the method "
            f"beats {board.floor or 'random'} with a disjoint interval (`of 1`: only 1 model has a value)."
        )
    parts.append(
        "After an interval, where it fits: the ranks that a method may have; `attrlab table` has all ranks and groups."
    )
    parts.append("▲ better, ▽ worse than random with a disjoint interval. Raw erasure scores never compare models.")
    return " ".join(parts)
