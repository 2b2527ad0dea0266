"""What a gate found, for people and for continuous integration: terminal, Markdown, JUnit XML."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from statistics import median
from xml.etree import ElementTree as Xml

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from attrlab.leaderboard.comparisons import ALPHA
from attrlab.leaderboard.formats import markdown
from attrlab.leaderboard.gate import POWER, Report, Verdict, bounded
from attrlab.leaderboard.tables import numbers

PLACE = ("model", "data set", "method", "metric")
NUMBERS = ("baseline", "new", "drop", "margin", "finds", "p (Holm)", "n")
"""Headings of what every row shows; ``finds`` is the smallest detectable drop."""

HEADS = (*PLACE, *NUMBERS, "verdict")


FAILING = ("dropped", "failed", "missing", "lost")


def interesting(report: Report) -> list[Verdict]:
    """Returns the cells that fail, then those that pass though their own p, not corrected, is below 0.05."""
    close = [one for one in report.verdicts if one.ok and one.p is not None and one.p < ALPHA]
    return [*report.failing, *close]


def terminal(report: Report) -> RenderableType:
    """Returns the interesting rows as rich tables, one per data set, model and method, and the summary."""
    parts: list[RenderableType] = []

    def title(one: Verdict) -> str:
        return "  ".join((one.match.dataset, one.match.model, one.match.method))

    for name, group in groupby(sorted(interesting(report), key=title), key=title):
        cells = list(group)
        grid = Grid(title=Text(name), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for head in ("metric", *NUMBERS, "verdict"):
            grid.add_column(head, justify="right" if head in NUMBERS else "left", overflow="fold")
        for one in cells:
            grid.add_row(*map(Text, [_metric(one), *_numbers(one), one.status]), style="" if one.ok else "red")
        notes = [f"{_metric(one)}: {one.reason}" for one in cells if one.reason]
        parts += [grid, *(Text(note, style="dim") for note in notes), Text()]
    return Group(*parts, *map(Text, _summary(report)))


def summary(report: Report) -> str:
    """Returns the interesting rows and the summary as Markdown, names escaped."""
    first, *rest = _summary(report)
    lines = [f"### attrlab gate: {markdown(first)}", "", *(f"{markdown(line)}  " for line in rest)]
    shown = interesting(report)
    if shown:
        lines += ["", f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
        lines += [f"| {' | '.join(map(markdown, _row(one)))} |" for one in shown]
    return "\n".join(lines) + "\n"


def junit(report: Report) -> str:
    """Returns JUnit XML: a suite per model and data set, a test case per cell; cells too small to fail are skipped."""
    root = Xml.Element("testsuites", {"name": "attrlab gate", **_counts(report.verdicts)})
    for (dataset, model), group in groupby(report.verdicts, key=_place):
        cells = list(group)
        suite = Xml.SubElement(root, "testsuite", {"name": _xml(f"{model} on {dataset}"), **_counts(cells)})
        for one in cells:
            names = {"classname": _xml(f"{model} on {dataset}"), "name": _xml(f"{one.match.method}: {_metric(one)}")}
            case = Xml.SubElement(suite, "testcase", names)
            if one.status == "blind":
                Xml.SubElement(case, "skipped", {"message": _xml(one.reason or "")})
            elif not one.ok:
                told = ", ".join(f"{head} {cell}" for head, cell in zip(NUMBERS, _numbers(one), strict=True) if cell)
                message = _xml(f"{one.status}: {one.reason or told}")
                Xml.SubElement(case, "failure", {"type": one.status, "message": message}).text = told
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _counts(cells: tuple[Verdict, ...] | list[Verdict]) -> dict[str, str]:
    failures = sum(not one.ok for one in cells)
    skipped = sum(one.status == "blind" for one in cells)
    return {"tests": str(len(cells)), "failures": str(failures), "errors": "0", "skipped": str(skipped)}


def _xml(text: str) -> str:
    """Returns text without the characters that XML 1.0 has no way to write, which ElementTree would write."""
    return re.sub(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]", "\N{REPLACEMENT CHARACTER}", text)


def _place(one: Verdict) -> tuple[str, str]:
    return one.match.dataset, one.match.model


def _summary(report: Report) -> Iterator[str]:
    """Yields what was decided, then under which settings."""
    counts = Counter(one.status for one in report.verdicts)
    failing = ", ".join(f"{counts[status]} {status}" for status in FAILING if counts[status])
    tested = [one for one in report.verdicts if one.p is not None]
    if failing:
        yield f"FAILED: {failing}, of {len(report.verdicts)} cells"
    else:
        yield f"passed: none of {len(tested)} cells dropped by more than the margin"
    yield (
        f"{len(tested)} one-sided sign-flip tests of drop > margin, Holm over all of them, alpha {report.alpha:g}; "
        f"margin {report.margin:g}, a share of the baseline's mean where a metric's range is wider than 2"
    )
    if tested:
        sizes = [one.n for one in tested]
        yield f"{min(sizes)} to {max(sizes)} examples per cell{_sensitivity(tested)}"
    if counts["blind"]:
        yield f"{counts['blind']} cells have too few examples to show any drop and were not tested"


def _sensitivity(tested: list[Verdict]) -> str:
    """Returns which drops would have been found, in cells whose units are those of the margin."""
    found = [one.detectable for one in tested if one.detectable is not None and bounded(one.match.metric)]
    if not found:
        return ""
    typical, largest = numbers([median(found), max(found)])
    return (
        f"; at the spread seen, the smallest drop found with {100 * POWER:.0f} % probability is {typical} in the "
        f"median cell and {largest} in the least sensitive one"
    )


def _row(one: Verdict) -> list[str]:
    told = one.status if one.reason is None else f"{one.status}: {one.reason}"
    return [one.match.model, one.match.dataset, one.match.method, _metric(one), *_numbers(one), told]


def _metric(one: Verdict) -> str:
    operator = one.match.column.operator
    return f"{one.match.column.metric} ({operator})" if operator else one.match.column.metric


def _numbers(one: Verdict) -> list[str]:
    """Returns the cells of the columns :data:`NUMBERS`, empty where there is no number."""
    n = str(one.n) if one.n == one.n_baseline else f"{one.n} of {one.n_baseline}"
    if one.old is None or one.new is None or one.drop is None:
        return [""] * 6 + [n]
    detectable = "" if one.detectable is None else f"{one.detectable:.3g}"
    p = "" if one.adjusted is None else f"{one.adjusted:.2g}"
    return [*numbers([one.old, one.new, one.drop]), f"{one.margin:.3g}", detectable, p, n]
