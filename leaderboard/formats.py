"""Tables as text: records, JSON, CSV, Markdown and LaTeX. What comes from models and data is escaped."""

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

from attrlab.bench.errors import unknown
from attrlab.leaderboard.board import Board
from attrlab.leaderboard.comparisons import detectable
from attrlab.leaderboard.grids import Grid, grids
from attrlab.leaderboard.groups import ranked
from attrlab.leaderboard.statistics import Aggregate, aggregate, brief
from attrlab.leaderboard.strata import OUTCOMES, Strata, stratified

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
    "rank",
    "rank_low",
    "rank_high",
    "letters",
    "detectable",
    "macro",
    "correct",
    "wrong",
    "classes",
)
"""Keys of a record and header of the CSV, in order.

``rank`` to ``letters`` are those of :class:`~attrlab.leaderboard.groups.Standing` (the rank is the best that a method
may have), None without one; ``detectable`` is the smallest d_z that one paired test finds at ``n_scored`` with
probability 0.8; ``macro`` to ``classes`` are means by stratum, ``classes`` from predicted class to mean (JSON in CSV).
"""


def records(board: Board, timings: bool = True) -> list[dict[str, Any]]:
    """Returns one record per model, data set, method and column, with the keys :data:`FIELDS`.

    Args:
        board: What was read from a results folder.
        timings: False leaves out what is measured on a machine, so that equal runs give equal records.
    """
    shown = {board.columns[i] for i in board.shown(timings)}
    return [_record(board, found) for found in aggregate(board) if found.column in shown]


def _record(board: Board, found: Aggregate) -> dict[str, Any]:
    column, place = found.column, (found.model, found.dataset, found.method, found.column)
    standing, strata = ranked(board).get(place), stratified(board).get(place, Strata())
    parts: dict[str, Any] = {
        **{"metric": column.metric, "operator": column.operator, "unit": column.unit},
        **dict.fromkeys(("rank", "rank_low"), standing and standing.low),
        "rank_high": standing and standing.high,
        "letters": standing and standing.letters,
        "detectable": detectable(found.n_scored) if found.n_scored > 2 else None,
        "macro": strata.macro,
        **{name: strata.outcomes[name].mean if name in strata.outcomes else None for name in OUTCOMES.values()},
        "classes": {name: part.mean for name, part in strata.classes.items()},
    }
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
    writer.writerows({**one, "classes": json.dumps(one["classes"])} for one in records(board, timings))
    return text.getvalue()


def _html(board: Board, timings: bool) -> str:
    from attrlab.leaderboard.webpage import page

    return page(board, timings)


def _md(board: Board, timings: bool) -> str:
    parts = [f"# {markdown(board.suite.title or board.suite.name)}\n"]
    for grid in grids(board, timings):
        parts += [f"## {markdown(grid.title)}\n"] if grid.title else []
        parts += [" ".join(map(markdown, grid.caption)) + "\n", _md_table(grid)]
        if grid.notes:
            parts.append("Without a value:\n\n" + "\n".join(f"- {markdown(line)}" for line in grid.notes) + "\n")
    return "\n".join(parts)


def _md_table(grid: Grid) -> str:
    lines = ["| " + " | ".join(map(markdown, grid.heads)) + " |", "|---|" + "---:|" * (len(grid.heads) - 1)]
    lines += ["| " + " | ".join([markdown(name), *cells]) + " |" for name, *cells in grid.rows]
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
    parts += [_latex_table(grid) for grid in grids(board, timings)]
    return "\n".join(parts)


def _latex_table(grid: Grid) -> str:
    remarks = " ".join(f"{latex(line)}." for line in grid.notes)
    title = f"{latex(grid.title)}. " if grid.title else ""
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{title}{' '.join(map(latex, grid.caption))}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(grid.heads) - 1)}}}",
            r"\toprule",
            " & ".join(map(latex, grid.heads)) + r" \\",
            r"\midrule",
            *(" & ".join(map(latex, row)) + r" \\" for row in grid.rows),
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
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "\N{EN DASH}": "--",
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
