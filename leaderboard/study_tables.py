"""The tables of the study of lambda: for the terminal, and as Markdown with every interval."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from attrlab.leaderboard.study import Studied, Study, curve, verdict, verdicts
from attrlab.leaderboard.study_words import (
    advice,
    answer,
    explanation,
    interest_lines,
    optimality_line,
    plain,
    scale_line,
    shape_line,
    unfinished_lines,
)

MEASURES = (
    ("damage", "M"),
    ("entropy", "entropy"),
    ("capped", "capped"),
    ("collapsed", "collapsed"),
    ("kkt", "KKT"),
    ("recall", "recall"),
    ("recall_rho", "recall ln rho"),
    ("planted", "ln rho planted"),
    ("ordinary", "ln rho ordinary"),
    ("ordered", "in order"),
)
"""Measures at the optimum and their short names."""

IN_TERMINAL = ("damage", "entropy", "capped", "collapsed", "kkt", "recall", "ordered")

LEGEND = (
    "M: damage on fresh draws, in natural variances. entropy: mean of ln s below the cap, nats. capped: share of "
    "tokens that tolerate the most noise there is. collapsed: share of sentences with nothing left to rank. KKT: "
    "(m / lambda) dM/du below the cap, 1 at an exact optimum. recall: share of planted words found. in order: "
    "share of designated pairs whose planted word ranks first."
)


def rows(study: Study, model: Studied, measures: tuple[str, ...]) -> Iterator[list[tuple[str, str]]]:
    """Yields, per weight, a mean and its interval for every measure, then M of the runs that were stopped early."""
    curves = [curve(model, name) for name in measures]
    curves += [curve(model, "damage", steps) for steps in study.setup.unfinished]
    for index in range(len(study.setup.lams)):
        yield [(plain(one.mean[index]), f"[{plain(one.low[index])}, {plain(one.high[index])}]") for one in curves]


def heads(study: Study, measures: tuple[str, ...]) -> list[str]:
    """Returns the names of the columns of :func:`rows`."""
    short = dict(MEASURES)
    return [*(short[name] for name in measures), *(f"M, {steps} steps" for steps in study.setup.unfinished)]


def findings(study: Study) -> Iterator[tuple[str, list[str]]]:
    """Yields what the study found: a heading and lines."""
    shapes = [f"{model.name}: {shape_line(one)}" for model, one in zip(study.models, verdicts(study), strict=True)]
    yield (
        "Does M have a U-shape against lambda?",
        [
            answer(study),
            *shapes,
            *unfinished_lines(study),
            explanation(study),
            optimality_line(study),
            scale_line(study),
        ],
    )
    yield "Interest of planted and ordinary words", interest_lines(study)
    yield "How to choose lambda", advice(study)


def terminal(study: Study) -> RenderableType:
    """Returns one rich table per model, then the findings."""
    parts: list[RenderableType] = []
    for model in study.models:
        title = Text(f"{study.dataset.name}  {model.name}  {len(model.sentences)} sentences")
        grid = Grid(
            title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, collapse_padding=True
        )
        grid.add_column("λ", justify="right")
        for head in heads(study, IN_TERMINAL):
            grid.add_column(head, justify="right")
        for lam, cells in zip(study.setup.lams, rows(study, model, IN_TERMINAL), strict=True):
            grid.add_row(plain(lam), *(mean for mean, _ in cells))
        parts += [grid, Text()]
    parts += [Text(LEGEND, style="dim"), Text()]
    for heading, lines in findings(study):
        parts += [Text(heading, style="bold"), *(Text(line) for line in lines), Text()]
    return Group(*parts)


def markdown(study: Study) -> str:
    """Returns the findings and one table per model, every mean with its 95 % interval."""
    measures = tuple(name for name, _ in MEASURES)
    lines = [f"# The weight lambda of co-perturbation on {study.dataset.name}", ""]
    for heading, found in findings(study):
        lines += [f"## {heading}", "", *(f"- {line}" for line in found), ""]
    for model in study.models:
        names = heads(study, measures)
        lines += [f"## {model.name}", "", "| λ | " + " | ".join(names) + " |", "|---:" * (len(names) + 1) + "|"]
        for lam, cells in zip(study.setup.lams, rows(study, model, measures), strict=True):
            lines.append(f"| {plain(lam)} | " + " | ".join(f"{mean} {ends}" for mean, ends in cells) + " |")
        lines += ["", f"M at the optimum: {shape_line(verdict(curve(model, 'damage')))}", ""]
    return "\n".join([*lines, LEGEND, "Intervals: 95 % bootstrap over sentences, each averaged over seeds.", ""])
