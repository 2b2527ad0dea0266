"""Tables as text: records, JSON, CSV, Markdown and LaTeX. What comes from models and data is escaped."""

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

from attrlab.bench.errors import unknown
from attrlab.leaderboard.board import Board
from attrlab.leaderboard.statistics import Aggregate, aggregate, brief
from attrlab.leaderboard.tables import Table, arrow, heading, interval, tables

FIELDS = (
    "model",
    "dataset",
    "method",
    "metric",
    "operator",
    "unit",
    "mean",
    "ci_low",
    "ci_high",
    "n_scored",
    "n_total",
    "status",
    "reason",
)
"""Keys of a record and header of the CSV, in order."""


def records(board: Board, timings: bool = True) -> list[dict[str, Any]]:
    """Returns one record per model, data set, method and column, with the keys :data:`FIELDS`.

    Args:
        board: What was read from a results folder.
        timings: False leaves out what is measured on a machine, so that equal runs give equal records.
    """
    shown = {board.columns[i] for i in board.shown(timings)}
    return [_record(found) for found in aggregate(board) if found.column in shown]


def _record(found: Aggregate) -> dict[str, Any]:
    column = found.column
    parts = {"metric": column.metric, "operator": column.operator, "unit": column.unit}
    return {name: parts[name] if name in parts else getattr(found, name) for name in FIELDS}


def render(board: Board, format: str, timings: bool = True) -> str:
    """Returns the board in one format, ending in a newline.

    Args:
        board: What was read from a results folder.
        format: ``md``, ``csv``, ``latex``, ``html`` (the page) or ``json`` (the records).
        timings: False leaves out what is measured on a machine.

    Raises:
        UserError: If the format is unknown.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    return FORMATS[format](board, timings)


def _json(board: Board, timings: bool) -> str:
    return json.dumps(records(board, timings), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(board: Board, timings: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(board, timings))
    return text.getvalue()


def _html(board: Board, timings: bool) -> str:
    from attrlab.leaderboard.webpage import page

    return page(board, timings)


def caption(table: Table) -> str:
    """Returns what the numbers of a table are."""
    suite = table.board.suite
    floor = f" {table.board.floor} is the floor." if table.board.floor else ""
    return (
        f"Suite {suite.name}, unit {suite.unit}, {table.dataset.n_used} of {table.dataset.n_total} examples, "
        f"seed {suite.seed}. Mean [95 % bootstrap interval].{floor}"
    )


def _md(board: Board, timings: bool) -> str:
    parts = [f"# {markdown(board.suite.title or board.suite.name)}\n"]
    for table in tables(board, timings):
        parts.append(f"## {markdown(table.dataset.name)}, {markdown(table.model.name)}\n\n{markdown(caption(table))}\n")
        parts.append(_md_table(table))
        listed = [f"- {markdown(line)}" for line in table.notes()]
        if listed:
            parts.append("Without a value:\n\n" + "\n".join(listed) + "\n")
    return "\n".join(parts)


def _md_table(table: Table) -> str:
    board = table.board
    heads = [f"{markdown(heading(board, column))} {arrow(board, column)}" for column in table.columns]
    lines = ["| " + " | ".join(["method", *heads]) + " |", "|---|" + "---:|" * len(heads)]
    for method in table.methods:
        cells = [interval(table.cell(method.name, column)) for column in table.columns]
        lines.append("| " + " | ".join([markdown(method.name), *cells]) + " |")
    return "\n".join(lines) + "\n"


def markdown(text: str) -> str:
    r"""Returns text that Markdown, its tables included, shows as it is.

    >>> print(markdown("a|b <script> my_name _x_"))
    a\|b &lt;script&gt; my_name \_x\_
    """
    line = re.sub(r"[\\`*\[\]|#~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", brief(text))
    return re.sub(r"&(?=#?\w+;)", "&amp;", line).replace("<", "&lt;").replace(">", "&gt;")


def _latex(board: Board, timings: bool) -> str:
    parts = ["% \\usepackage{booktabs,graphicx}\n"]
    parts += [_latex_table(table) for table in tables(board, timings)]
    return "\n".join(parts)


def _latex_table(table: Table) -> str:
    arrows = {"↑": r" $\uparrow$", "↓": r" $\downarrow$", "": ""}
    heads = [f"{latex(heading(table.board, column))}{arrows[arrow(table.board, column)]}" for column in table.columns]
    rows = [
        [method.name, *(interval(table.cell(method.name, column)) for column in table.columns)]
        for method in table.methods
    ]
    remarks = " ".join(f"{latex(line)}." for line in table.notes())
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex(f'{table.model.name} on {table.dataset.name}. {caption(table)}')}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
            r"\toprule",
            " & ".join(["method", *heads]) + r" \\",
            r"\midrule",
            *(" & ".join(latex(cell) for cell in row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}}",
            *([rf"\par\smallskip{{\footnotesize Without a value: {remarks}\par}}"] if remarks else []),
            r"\end{table}",
            "",
        ]
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{char: "\\" + char for char in "&%$#_{}"},
}


def latex(text: str) -> str:
    r"""Returns text that LaTeX prints as it is; a minus before a digit becomes a minus sign.

    >>> print(latex("50 % of a_b, -0.5"))
    50 \% of a\_b, $-$0.5
    """
    escaped = "".join(_LATEX.get(char, char) for char in brief(text))
    # A bracket or star after the end of a row would be read as an option of the row end.
    guard = "{}" if escaped[:1] in ("[", "*") else ""
    return guard + re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)


FORMATS: dict[str, Callable[[Board, bool], str]] = {
    "md": _md,
    "csv": _csv,
    "latex": _latex,
    "html": _html,
    "json": _json,
}
