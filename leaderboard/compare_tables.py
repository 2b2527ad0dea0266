"""Comparisons of two results folders as text: terminal, Markdown, CSV, JSON."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from attrlab.bench.errors import unknown
from attrlab.bench.store import number
from attrlab.leaderboard.compare import Difference
from attrlab.leaderboard.comparisons import ALPHA, SMALLEST_EFFECT
from attrlab.leaderboard.formats import markdown
from attrlab.leaderboard.tables import numbers

FIELDS = (
    "model",
    "dataset",
    "method",
    "old_method",
    "metric",
    "operator",
    "unit",
    "n",
    "n_total",
    "new",
    "old",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "d_z",
    "rank_biserial",
    "verdict",
    "reason",
)
"""Keys of a record and header of the CSV, in order."""

HEADS = ("method", "new", "old", "difference", "p (Holm)", "d_z", "n", "verdict")

LEGEND = (
    "Difference: new less old on the examples that both scored, with its 95 % bootstrap interval. p: two-sided "
    "sign-flip test, corrected by Holm over the methods of a table. Better or worse: "
    f"p < {ALPHA} and |d_z| >= {SMALLEST_EFFECT}. Measured time is never judged."
)

_STYLES = {"better": "green", "worse": "red", "changed": "yellow"}


def terminal(found: Sequence[Difference]) -> RenderableType:
    """Returns rich tables, one per data set, model and column."""
    parts: list[RenderableType] = []
    for title, rows in _tables(found):
        grid = Grid(title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for head in HEADS:
            side: Literal["left", "right"] = "left" if head in ("method", "verdict") else "right"
            grid.add_column(head, justify=side, overflow="fold", no_wrap=head == "difference")
        for one in rows:
            grid.add_row(*map(Text, _row(one)), style=_STYLES.get(one.verdict, ""))
        parts += [grid, Text()]
    return Group(*parts, Text(LEGEND, style="dim"))


def render(found: Sequence[Difference], format: str) -> str:
    """Returns the differences in one format, ending in a newline.

    Args:
        found: What was compared.
        format: ``md``, ``csv`` or ``json``.

    Raises:
        UserError: If the format is unknown.
    """
    if format not in FORMATS:
        raise unknown("format", format, [*FORMATS, "text"])
    return FORMATS[format](found)


def records(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """Returns one record per difference, with the keys :data:`FIELDS`; an infinite d_z is None."""
    return [_record(one) for one in found]


def _record(one: Difference) -> dict[str, Any]:
    match, tested = one.match, one.found
    return {
        "model": match.model,
        "dataset": match.dataset,
        "method": match.methods[0],
        "old_method": match.methods[1],
        "metric": match.column.metric,
        "operator": match.column.operator,
        "unit": match.column.unit,
        "n": tested.n,
        "n_total": one.n_total,
        "new": one.new,
        "old": one.old,
        "difference": tested.mean,
        "ci_low": tested.low,
        "ci_high": tested.high,
        "p": tested.p,
        "p_holm": tested.adjusted,
        "d_z": None if tested.d_z is None else number(tested.d_z),
        "rank_biserial": tested.rank_biserial,
        "verdict": one.verdict,
        "reason": one.reason,
    }


def _md(found: Sequence[Difference]) -> str:
    parts = []
    for title, rows in _tables(found):
        lines = [f"## {markdown(title)}", "", f"| {' | '.join(HEADS)} |", "|---|" + "---:|" * (len(HEADS) - 2) + "---|"]
        parts.append("\n".join([*lines, *(f"| {' | '.join(map(markdown, _row(one)))} |" for one in rows)]))
    return "\n\n".join([*parts, markdown(LEGEND)]) + "\n"


def _csv(found: Sequence[Difference]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(found))
    return text.getvalue()


def _json(found: Sequence[Difference]) -> str:
    return json.dumps(records(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _tables(found: Sequence[Difference]) -> list[tuple[str, list[Difference]]]:
    """Returns the title and rows of each table: one per family."""
    titled = []
    for _, group in groupby(found, key=lambda one: one.match.family):
        rows = list(group)
        match = rows[0].match
        arrow = {True: "↑", False: "↓", None: ""}[match.metric.higher_is_better]
        operator = f" ({match.column.operator})" if match.column.operator else ""
        titled.append((f"{match.dataset}  {match.model}  {match.column.metric}{operator} {arrow}".rstrip(), rows))
    return titled


def _row(one: Difference) -> list[str]:
    tested, label = one.found, one.match.method
    n = str(tested.n) if tested.n == one.n_total else f"{tested.n} of {one.n_total}"
    if one.new is None or one.old is None or tested.mean is None:
        return [label, "", "", "", "", "", n, f"{one.verdict}: {one.reason}"]
    ends = [] if tested.low is None or tested.high is None else [tested.low, tested.high]
    shown = numbers([tested.mean, *ends])
    difference = f"{shown[0]} [{shown[1]}, {shown[2]}]" if ends else shown[0]
    p = "" if tested.adjusted is None else f"{tested.adjusted:.2g}"
    effect = "" if tested.d_z is None else f"{tested.d_z:.2f}"
    return [label, *numbers([one.new, one.old]), difference, p, effect, n, one.verdict]


FORMATS: dict[str, Callable[[Sequence[Difference]], str]] = {"md": _md, "csv": _csv, "json": _json}
