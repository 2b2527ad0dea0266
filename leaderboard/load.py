"""Reads a results folder into a :class:`~attrlab.leaderboard.board.Board`, checking every field it uses."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from attrlab.bench.errors import UserError
from attrlab.bench.store import key_of
from attrlab.leaderboard.board import (
    AttributionRow,
    Board,
    Cell,
    Column,
    ColumnScores,
    DatasetCard,
    MethodCard,
    MetricCard,
    ModelCard,
    Prediction,
    Provenance,
    Shift,
    Suite,
)
from attrlab.leaderboard.decode import decode, load_json


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _StoredScores:
    reason: str | None = None
    keys: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _StoredCell:
    model: str
    dataset: str
    method: str
    reason: str | None = None
    predictions: tuple[str, ...] = ()
    attributions: tuple[str, ...] = ()
    scores: tuple[_StoredScores, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _StoredShift:
    model: str
    dataset: str
    operator: str
    reason: str | None = None
    keys: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _StoredRun:
    suite: Suite
    provenance: Provenance
    methods: tuple[MethodCard, ...]
    metrics: tuple[MetricCard, ...]
    columns: tuple[Column, ...]
    models: tuple[ModelCard, ...]
    datasets: tuple[DatasetCard, ...]
    cells: tuple[_StoredCell, ...]
    shifts: tuple[_StoredShift, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _StoredScore:
    example: str
    value: float | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _ShiftRow:
    share: float | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Predictions:
    rows: tuple[Prediction, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Attributions:
    rows: tuple[AttributionRow, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Scores:
    rows: tuple[_StoredScore, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Shifts:
    rows: tuple[_ShiftRow, ...]


_CHUNKS: dict[str, type[_Predictions | _Attributions | _Scores | _Shifts]] = {
    "predictions": _Predictions,
    "attributions": _Attributions,
    "scores": _Scores,
    "shifts": _Shifts,
}


def read(folder: Path) -> Board:
    """Returns the board of a results folder; chunks that are not there yet are simply absent.

    Args:
        folder: What ``attrlab run`` wrote, with ``run.json`` in it.

    Raises:
        UserError: If the folder or its ``run.json`` does not exist, a file is broken or of another schema.
    """
    if not folder.is_dir():
        raise UserError(f"no such results folder: {str(folder)!r}; give the folder that `attrlab run` wrote")
    path = folder / "run.json"
    if not path.is_file():
        raise UserError(f"{str(folder)!r} has no run.json, so it is not a results folder; `attrlab run` writes one")
    run = decode(_StoredRun, load_json(path), str(path))
    _check_names(run, str(path))
    reader = _Reader(folder)
    parts = {part.name: getattr(run, part.name) for part in dataclasses.fields(run)}
    parts["cells"] = tuple(reader.cell(cell, len(run.columns)) for cell in run.cells)
    parts["shifts"] = tuple(reader.shift(stored) for stored in run.shifts)
    return Board(**parts)


def _check_names(run: _StoredRun, where: str) -> None:
    known: dict[str, set[Any]] = {
        "metric": {metric.name for metric in run.metrics},
        "method": {method.name for method in run.methods},
        "dataset": {dataset.name for dataset in run.datasets},
        "model": {(model.name, model.dataset) for model in run.models},
    }
    used: list[tuple[str, Any]] = [("metric", column.metric) for column in run.columns]
    for cell in run.cells:
        used += [("method", cell.method), ("dataset", cell.dataset), ("model", (cell.model, cell.dataset))]
    used += [("model", (shift.model, shift.dataset)) for shift in run.shifts]
    for kind, name in used:
        if name not in known[kind]:
            raise UserError(f"{where}: {kind} {name!r} is used but not described; the file is broken, run again")


def _check_chunk(content: dict[str, Any], key: str, rows: tuple[Any, ...], where: str) -> None:
    """Refuses a chunk that is not what its name says, or that does not hold just the examples it was made for."""
    of = content.get("of", {})
    if content.get("key", key) != key or (of and key_of(of) != key):
        raise UserError(f"{where} is not the chunk that its name says; delete it and run again")
    examples = [row.example for row in rows if hasattr(row, "example")]
    if len(set(examples)) != len(examples):
        raise UserError(f"{where} holds an example twice; delete it and run again")
    if examples and examples != of.get("examples", examples):
        raise UserError(f"{where} does not hold the examples it was made for; delete it and run again")


def _check_rows(cell: Cell, where: str) -> None:
    """Refuses scores of other examples than the first ones, or for another number of words than the example has."""
    words = {row.example: len(row.words) for row in cell.predictions}
    for row in cell.attributions:
        if row.scores is not None and len(row.scores) != words.get(row.example, len(row.scores)):
            raise UserError(
                f"{where}: {cell.method} has {len(row.scores)} scores for the {words[row.example]} words of "
                f"{row.example!r}; delete its attributions and run again"
            )
    known = tuple(words)
    for column in cell.scores:
        if known and column.complete and column.examples != known[: len(column.examples)]:
            raise UserError(f"{where}: {cell.method} is scored on other examples than were explained; run again")


class _Reader:
    """Reads chunk files, each once: all methods of a model share its predictions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[tuple[str, str], tuple[Any, ...] | None] = {}

    def cell(self, stored: _StoredCell, n_columns: int) -> Cell:
        if stored.reason is None and len(stored.scores) != n_columns:
            raise UserError(
                f"{self.folder / 'run.json'}: cell {stored.model} / {stored.dataset} / {stored.method} has "
                f"{len(stored.scores)} score columns, the run has {n_columns}; the file is broken, run again"
            )
        found = Cell(
            model=stored.model,
            dataset=stored.dataset,
            method=stored.method,
            reason=stored.reason,
            predictions=self._rows("predictions", stored.predictions)[0],
            attributions=self._rows("attributions", stored.attributions)[0],
            scores=tuple(self._column(scores) for scores in stored.scores),
        )
        _check_rows(found, str(self.folder))
        return found

    def shift(self, stored: _StoredShift) -> Shift:
        rows, _ = self._rows("shifts", stored.keys)
        found = rows[0] if rows else _ShiftRow(reason=stored.reason)
        return Shift(
            model=stored.model,
            dataset=stored.dataset,
            operator=stored.operator,
            share=found.share,
            reason=found.reason,
        )

    def _column(self, stored: _StoredScores) -> ColumnScores:
        if stored.reason is not None:
            return ColumnScores(reason=stored.reason)
        rows, complete = self._rows("scores", stored.keys)
        return ColumnScores(
            complete=complete,
            examples=tuple(row.example for row in rows),
            values=np.array([math.nan if row.value is None else row.value for row in rows], dtype=np.float64),
            reasons=tuple(row.reason for row in rows),
        )

    def _rows(self, kind: str, keys: tuple[str, ...]) -> tuple[tuple[Any, ...], bool]:
        """Returns the rows that are on disk, and whether all chunks are."""
        chunks = [self._chunk(kind, key) for key in keys]
        return tuple(row for chunk in chunks for row in chunk or ()), None not in chunks

    def _chunk(self, kind: str, key: str) -> tuple[Any, ...] | None:
        if (kind, key) not in self.seen:
            # A results folder may come from someone else: a key must not lead out of it.
            if not re.fullmatch(r"\w[\w.-]*", key):
                raise UserError(f"{self.folder / 'run.json'}: {key!r} is not the key of a chunk; the file is broken")
            path = self.folder / kind / f"{key}.json"
            self.seen[kind, key] = self._read(kind, key, path) if path.is_file() else None
        return self.seen[kind, key]

    def _read(self, kind: str, key: str, path: Path) -> tuple[Any, ...]:
        content = load_json(path)
        rows: tuple[Any, ...] = decode(_CHUNKS[kind], content, str(path)).rows
        _check_chunk(content, key, rows, str(path))
        return rows
