"""What ``attrlab list`` prints: the catalogues, with their facts. Imports no method, metric, model or data library."""

from collections.abc import Callable, Sequence
from dataclasses import fields

from rich.console import Console
from rich.table import Table

from attrlab.bench.data import DATASETS
from attrlab.bench.errors import unknown
from attrlab.bench.facts import MethodFacts, MetricFacts
from attrlab.bench.registry import METHODS, METRICS
from attrlab.bench.suite import load, shipped
from attrlab.bench.zoo import WIRED, ZOO

WIDTH = 150
"""Columns of a listing that is not printed to a terminal."""


def show(what: str) -> None:
    """Prints one listing, the card of one method or metric, or all listings for an empty name.

    Raises:
        UserError: If there is no such listing, method or metric.
    """
    known = METHODS.entries() | METRICS.entries()
    if what and what not in LISTINGS and what not in known:
        raise unknown("listing", what, [*LISTINGS, *known])
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    if what in known:
        console.print(_card(what, known[what]))
    else:
        for name in [what] if what else LISTINGS:
            console.print(LISTINGS[name]())


def _card(name: str, facts: MethodFacts | MetricFacts) -> Table:
    """One thing's facts, a line each; those that say nothing are left out."""
    lines = []
    for field in fields(facts):
        value = getattr(facts, field.name)
        if value not in ("", (), {}, False):
            text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            text = {"True": "yes", "None": "neither"}.get(text, text)
            lines.append((field.name.replace("_", " "), text))
    return _table(name, ("fact", "value"), lines)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", style="bold cyan" if column == columns[0] else None)
    for row in rows:
        table.add_row(*row)
    return table


def _methods() -> Table:
    rows = [
        (
            name,
            facts.family,
            _sign(facts.signed),
            _cost(facts.forwards, facts.bound),
            _cost(facts.backwards, facts.bound),
            facts.summary,
            facts.reference,
        )
        for name, facts in METHODS.entries().items()
    ]
    rows += [(name, "plug-in", "", "", "", f"from {point.value}", "") for name, point in METHODS.plugins().items()]
    columns = ("method", "family", "sign", "forwards", "backwards", "what it does", "reference")
    return _table("Methods: cost per example in m words, t tokens", columns, rows)


def _cost(formula: str, bound: bool) -> str:
    return f"≤ {formula}" if bound and formula != "0" else formula


def _sign(signed: bool) -> str:
    return "±" if signed else "≥0"


def _metrics() -> Table:
    rows = [
        (
            name,
            facts.family,
            {True: "higher ↑", False: "lower ↓", None: "describes"}[facts.higher_is_better],
            "[{:g}, {:g}]".format(*facts.bounds),
            facts.forwards,
            facts.summary,
            facts.reference,
        )
        for name, facts in METRICS.entries().items()
    ]
    rows += [(name, "plug-in", "", "", "", f"from {point.value}", "") for name, point in METRICS.plugins().items()]
    columns = ("metric", "family", "better", "range", "asks", "what it measures", "reference")
    return _table("Metrics: questions per example in m words; attrlab list NAME shows a card", columns, rows)


def _models() -> Table:
    rows = []
    for info in ZOO:
        size = info.mini_geometry()
        rows.append(
            (
                info.mini,
                f"{size['layers']} x {size['width']}, {size['heads']} heads",
                info.repo,
                f"{info.parameters / 1e6:,.0f} M",
                f"{info.layers} x {info.width}, {info.heads} heads",
                f"{info.fine_tuning.learning_rate:g}",
                info.replace,
                info.revision[:7],
            )
        )
    columns = ("mini", "mini size", "full model", "parameters", "full size", "lr", "replaced by", "revision")
    wired = ", ".join(WIRED)
    title = f"Models: minis are trained on the spot; {wired}: wired by hand; any local folder or hub id works too"
    return _table(title, columns, rows)


def _datasets() -> Table:
    rows = [
        (
            info.name,
            info.source,
            ", ".join(info.parts),
            info.evaluation,
            "pair" if info.texts == 2 else "single",
            "/".join(info.labels),
            info.rationales or "-",
            info.summary,
        )
        for info in DATASETS.values()
    ]
    columns = ("data set", "source", "parts", "default", "texts", "labels", "rationales", "what it is")
    return _table("Data sets: NAME or NAME:PART; local ones are found in --data-dir or $ATTRLAB_DATA", columns, rows)


def _suites() -> Table:
    rows = []
    for name in shipped():
        suite = load(name)
        size = f"{len(suite.models)} models, {len(suite.datasets)} data sets, {len(suite.methods)} methods, "
        rows.append((name, size + f"{len(suite.metrics)} metrics, {suite.limit} examples", suite.title))
    rows.append(("adhoc", "empty: name everything with --model, --dataset, --method, --metric", ""))
    return _table("Suites: attrlab run NAME", ("suite", "size", "title"), rows)


LISTINGS: dict[str, Callable[[], Table]] = {
    "methods": _methods,
    "metrics": _metrics,
    "models": _models,
    "datasets": _datasets,
    "suites": _suites,
}
