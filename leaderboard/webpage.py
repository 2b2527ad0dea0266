"""The page: one self-contained HTML file. This module says what is shown; ``page/`` says how it looks."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from attrlab.leaderboard.board import Board, Cell, Column, DatasetCard, MetricCard, ModelCard, Prediction
from attrlab.leaderboard.grids import LETTERS, aggregates
from attrlab.leaderboard.heatmap import heatmaps, rationale_share
from attrlab.leaderboard.pareto_drawing import figure
from attrlab.leaderboard.statistics import Aggregate
from attrlab.leaderboard.tables import (
    Summary,
    Table,
    arrow,
    families,
    heading,
    numbers,
    setting,
    shifts,
    shown,
    summarise,
    tables,
)
from attrlab.leaderboard.template import fill
from attrlab.leaderboard.webranks import by_stratum, over_blocks, ranking

Pairs = list[tuple[str, str]]

DIRECTIONS = {True: "Higher is better.", False: "Lower is better.", None: "It only describes."}

DETAILED = 20_000
"""Means up to which the page shows each model, and takes pairwise tests; beyond, only the overviews over models."""

_MINUS = str.maketrans("-", "\N{MINUS SIGN}")


def page(board: Board, timings: bool = True) -> str:
    """Returns the HTML page of a board: no network, no file beside it; see :data:`DETAILED`.

    Args:
        board: What was read from a results folder.
        timings: False leaves out what is measured on a machine, and when.
    """
    found = tables(board, timings)
    columns = {board.columns[i].metric for i in board.shown(timings)}
    detailed = sum(1 for table in found for _ in table.cells()) <= DETAILED
    return fill(
        "page.html.j2",
        board=board,
        detailed=detailed,
        timings=timings,
        tiles=_tiles(board, found),
        unfinished=sum(cell.status == "missing" for table in found for cell in table.cells()),
        settings=_settings(board),
        provenance=_provenance(board, timings),
        sections=[_section(board, dataset, found, detailed=detailed) for dataset, _ in board.blocks()],
        letters=" ".join(LETTERS),
        overall=over_blocks(board) if detailed else [],
        overall_notes=" ".join(aggregates(board)) if detailed else "",
        metrics=[(metric, _range(metric)) for metric in board.metrics if metric.name in columns],
        methods=board.ordered_methods(),
    )


def _tiles(board: Board, found: Sequence[Table]) -> list[tuple[int, str]]:
    models = {model.name for model in board.models}
    scores = sum(cell.n_scored for table in found for cell in table.cells())
    counts = (len(board.datasets), len(models), len(board.methods), len(board.metrics), scores)
    names = ("data set", "model", "method", "metric", "score")
    return [(count, name + "s" * (count != 1)) for count, name in zip(counts, names, strict=True)]


def _settings(board: Board) -> Pairs:
    suite, explain, again = board.suite, board.suite.explain, board.suite.re_explain
    rows = [
        ("Suite", suite.name),
        ("Examples per data set", "all" if suite.limit is None else f"at most {suite.limit:,}"),
        ("Seed", str(suite.seed)),
        ("Unit", suite.unit),
        ("Precision of answers", suite.precision),
        ("Removal operators", ", ".join(suite.operators)),
        ("Explained", ", ".join(f"{key} {value}" for key, value in explain.items())),
        ("Explained again on", ", ".join(f"{value} {key}" for key, value in again.items())),
        ("Time limit", "none" if suite.timeout is None else f"{suite.timeout:g} s per example and method"),
        ("Changed parameters", ", ".join(method.name for method in board.methods if method.params)),
    ]
    return [(label, value) for label, value in rows if value]


def _provenance(board: Board, timings: bool) -> Pairs:
    origin, git = board.provenance, board.provenance.git
    dirty = " with uncommitted changes" if git and git.get("dirty") else ""
    machine = [
        origin.device,
        f"{origin.threads} thread{'s' * (origin.threads > 1)}" if origin.threads else "",
        origin.platform,
    ]
    rows = [
        ("attrlab", origin.attrlab),
        ("Commit", f"{str(git.get('commit'))[:12]}{dirty}" if git else "not from a git checkout"),
        ("Python", origin.python),
        ("Packages", ", ".join(f"{name} {version}" for name, version in sorted(origin.versions.items()))),
        ("Machine", ", ".join(part for part in machine if part)),
        ("Started", origin.started if timings else ""),
    ]
    return [(label, value) for label, value in rows if value]


def _range(metric: MetricCard) -> str:
    low, high = metric.bounds
    return f"{'-∞' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'}".translate(_MINUS)


def _section(board: Board, dataset: DatasetCard, found: Sequence[Table], *, detailed: bool) -> dict[str, Any]:
    own = [table for table in found if table.dataset == dataset]
    ran = [table.model for table in own]
    return {
        "dataset": dataset,
        "facts": _dataset_facts(dataset),
        "overview": _overview(board, dataset, own) if len(own) > (1 if detailed else 0) else None,
        "blocks": [_block(board, table) for table in own] if detailed else [],
        "waiting": [model.name for model in board.models if model.dataset == dataset.name and model not in ran],
    }


def _dataset_facts(dataset: DatasetCard) -> Pairs:
    rationales = {
        "planted": "planted by construction",
        "human": "marked by people",
        "derived": "derived from other annotations",
    }
    rows = [
        ("Examples", f"{dataset.n_used:,} of {dataset.n_total:,}"),
        ("Labels", ", ".join(dataset.labels)),
        ("Rationales", rationales.get(dataset.rationales, dataset.rationales) or "none"),
        ("Fingerprint", dataset.fingerprint[:12]),
        ("Licence", dataset.licence),
        ("Reference", dataset.reference),
    ]
    return [(label, value) for label, value in rows if value]


def _block(board: Board, table: Table) -> dict[str, Any]:
    order = {method.name: i for i, method in enumerate(table.methods)}
    cells = [cell for cell in board.cells if (cell.model, cell.dataset) == (table.model.name, table.dataset.name)]
    cells.sort(key=lambda cell: order[cell.method])
    grouped = families(board, table.columns)
    columns = [column for _, members in grouped for column in members]
    scales = [_scale(table, column) for column in columns]
    told = shifts(table)
    return {
        "model": table.model,
        "headline": list(_headline(table.model)),
        "facts": [*_model_facts(table.model, cells), *([("Out of distribution", told)] if told else [])],
        "families": [(family, len(members)) for family, members in grouped],
        "heads": [_head(board, column) for column in columns],
        "rows": [
            {
                "method": method,
                "floor": method.name == table.floor,
                "whole": next((cell.reason for cell in cells if cell.method == method.name), None),
                "cells": [_cell(table, method.name, c, scale) for c, scale in zip(columns, scales, strict=True)],
            }
            for method in table.methods
        ],
        "notes": list(table.notes()),
        "ranking": ranking(table),
        "strata": by_stratum(table),
        "pareto": figure(table, cells),
        "heatmaps": heatmaps(board, table.dataset, table.model, cells),
    }


def _head(board: Board, column: Column) -> dict[str, Any]:
    metric = board.metric(column.metric)
    return {
        "metric": metric,
        "setting": setting(board, column),
        "arrow": arrow(board, column),
        "title": f"{metric.summary}. {DIRECTIONS[metric.higher_is_better]}",
        "name": heading(board, column),
    }


def _headline(model: ModelCard) -> Iterator[str]:
    if model.parameters is not None:
        yield f"{_short(model.parameters)} parameters"
    accuracy = (model.trained or {}).get("heldout_accuracy")
    if isinstance(accuracy, float | int):
        yield f"held-out accuracy {100 * accuracy:.1f} %"


def _short(count: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)


def _model_facts(model: ModelCard, cells: Sequence[Cell]) -> Pairs:
    predictions = list({row.example: row for cell in cells for row in cell.predictions if row.status == "ok"}.values())
    labels = Counter(row.label for row in predictions if row.label is not None)
    judged = [row for row in predictions if row.correct is not None]
    share = rationale_share(predictions)
    trained = model.trained or {}
    learned = [
        f"{trained[key]:,} {unit}" for key, unit in (("train_size", "texts"), ("steps", "steps")) if key in trained
    ]
    rows = [
        ("Model", model.id if model.id != model.name else ""),
        ("Family", model.family),
        ("Parameters", "" if model.parameters is None else f"{model.parameters:,}"),
        ("Weights", (model.hash or "")[:12]),
        ("Trained here on", ", ".join([str(trained.get("dataset", "")), *learned]) if trained else ""),
        ("Correct", f"{sum(bool(row.correct) for row in judged)} of {len(judged)}" if judged else ""),
        (
            "Most frequent label",
            f"{100 * max(labels.values()) / labels.total():.0f} % of these examples" if labels else "",
        ),
        ("Rationale words", "" if share is None else f"{100 * share:.0f} % of words" + _lost(predictions)),
        ("Truncated texts", _truncated(predictions)),
    ]
    return [(label, value) for label, value in rows if value]


def _truncated(predictions: Sequence[Prediction]) -> str:
    cut = [row.dropped for row in predictions if row.dropped]
    return f"{len(cut)} of {len(predictions)}, {sum(cut):,} words dropped" if cut else ""


def _lost(predictions: Sequence[Prediction]) -> str:
    """Words what truncation takes of the rationales."""
    cut = [row.lost for row in predictions if row.lost]
    return f"; {sum(cut):,} more cut off in {len(cut)} texts" if cut else ""


def _scale(table: Table, column: Column) -> tuple[float, float]:
    """Returns the lowest and highest number that the column's intervals reach."""
    found = [table.cell(method.name, column) for method in table.methods]
    ends = [end for cell in found for end in (cell.ci_low, cell.mean, cell.ci_high) if end is not None]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def _cell(table: Table, method: str, column: Column, scale: tuple[float, float]) -> dict[str, Any]:
    found = table.cell(method, column)
    floor = table.cell(table.floor, column) if table.floor else None
    mean, ends = shown(found)
    return {
        "mean": mean.translate(_MINUS),
        "sort": "" if found.mean is None else f"{found.mean:.6g}",
        "ends": ends.translate(_MINUS),
        "n": f"n {found.n_scored}" if found.mean is not None and found.n_scored < found.n_total else "",
        "status": found.status,
        "reason": found.reason or "",
        "verdict": table.verdict(found),
        "whisker": _whisker(found, floor, scale),
    }


def _whisker(found: Aggregate, floor: Aggregate | None, scale: tuple[float, float]) -> str:
    """Returns where interval, mean and the floor's interval lie on the column's scale, in percent, as CSS."""
    low, high = scale
    ends: dict[str, float | None] = {"a": found.ci_low, "b": found.ci_high, "c": found.mean}
    if None in ends.values() or high <= low:
        return ""
    if floor is not None:
        ends |= {"f": floor.ci_low, "g": floor.ci_high}
    return ";".join(f"--{name}:{100 * (e - low) / (high - low):.0f}" for name, e in ends.items() if e is not None)


def _overview(board: Board, dataset: DatasetCard, own: Sequence[Table]) -> dict[str, Any]:
    summaries = summarise(own)
    grouped = families(board, [column for column in board.columns if any(column in table.columns for table in own)])
    columns = [column for _, members in grouped for column in members]
    return {
        "models": len(own),
        "families": [(family, len(members)) for family, members in grouped],
        "heads": [_head(board, column) for column in columns],
        "rows": [
            (method, [_summary(summaries.get((dataset.name, method.name, column)), len(own)) for column in columns])
            for method in board.ordered_methods()
        ],
    }


def _summary(summary: Summary | None, n_models: int) -> dict[str, Any] | None:
    if summary is None or summary.average is None:
        return None
    share = 100 / max(1, summary.compared)
    return {
        "average": numbers([summary.average])[0].translate(_MINUS),
        "few": f"of {summary.n_models}" if summary.n_models < n_models else "",
        "counts": f"{summary.better}/{summary.compared}" if summary.compared else "",
        "better": summary.better,
        "bar": f"--a:{share * summary.better:.0f};--b:{share * (summary.compared - summary.worse):.0f}",
        "title": f"better than random in {summary.better}, worse in {summary.worse} of {summary.compared} models",
    }
