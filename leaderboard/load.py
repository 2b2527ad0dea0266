"""Reads a results folder into a :class:`~attrlab.leaderboard.board.Board`, checking every field it uses."""

import dataclasses
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from attrlab.bench.errors import UserError, unknown
from attrlab.bench.store import key_of
from attrlab.leaderboard.board import Board, Cell, ColumnScores, Shift
from attrlab.leaderboard.decode import decode, load_json
from attrlab.leaderboard.layout import CHUNKS, ShiftRow, StoredCell, StoredRun, StoredScores, StoredShift
from attrlab.leaderboard.packed import AttributionPack, ScorePack, fingerprint, write_attributions, write_scores


def read(folder: Path, model: str | None = None, dataset: str | None = None) -> Board:
    """Returns the board of a results folder; chunks that are not there yet are simply absent.

    Args:
        folder: What ``attrlab run`` wrote, with ``run.json`` in it.
        model: Name of the only model to read, None for all; ``run.json`` describes what was run all the same.
        dataset: Name of the only data set part to read, likewise.

    Raises:
        UserError: If the folder or its ``run.json`` does not exist, a file is broken or of another schema, or nothing
            has these names.
    """
    run = _restricted(_run(folder), model, dataset)
    reader = _Reader(folder)
    parts = {part.name: getattr(run, part.name) for part in dataclasses.fields(run)}
    parts["cells"] = tuple(reader.cell(cell, len(run.columns)) for cell in run.cells)
    parts["shifts"] = tuple(reader.shift(stored) for stored in run.shifts)
    return Board(**parts)


def pack(folder: Path) -> Board:
    """Returns the board of a results folder, as :func:`read`, and writes what makes reading it fast the next time.

    Raises:
        UserError: As :func:`read`, and if the folder cannot be written.
    """
    run = _run(folder)
    # Before the files are read: what changes in between is then read again.
    scores = [fingerprint(folder, ("scores", one.keys)) for cell in run.cells for one in cell.scores if one.keys]
    rows = [_rows_print(folder, cell) for cell in run.cells]
    board = read(folder)
    columns = (
        column
        for stored, cell in zip(run.cells, board.cells, strict=True)
        for one, column in zip(stored.scores, cell.scores, strict=True)
        if one.keys
    )
    write_scores(folder, zip(scores, columns, strict=True))
    write_attributions(folder, zip(rows, (cell.attributions for cell in board.cells), strict=True))
    return board


def _rows_print(folder: Path, cell: StoredCell) -> bytes:
    """Returns the fingerprint of the attributions of a cell, and of the predictions that they were checked against."""
    keys = cell.attributions
    return fingerprint(folder, ("predictions", cell.predictions), ("attributions", keys)) if keys else b""


def _run(folder: Path) -> StoredRun:
    if not folder.is_dir():
        raise UserError(f"no such results folder: {str(folder)!r}; give the folder that `attrlab run` wrote")
    path = folder / "run.json"
    if not path.is_file():
        raise UserError(f"{str(folder)!r} has no run.json, so it is not a results folder; `attrlab run` writes one")
    run = decode(StoredRun, load_json(path), str(path))
    _check_names(run, str(path))
    return run


def _restricted(run: StoredRun, model: str | None, dataset: str | None) -> StoredRun:
    """Returns a run with the parts only that belong to one model or data set."""
    for kind, name, known in (
        ("model", model, {card.name for card in run.models}),
        ("data set", dataset, {card.name for card in run.datasets}),
    ):
        if name is not None and name not in known:
            raise unknown(kind, name, known)

    def belongs(one: StoredCell | StoredShift) -> bool:
        return model in (None, one.model) and dataset in (None, one.dataset)

    models = [card for card in run.models if model in (None, card.name) and dataset in (None, card.dataset)]
    return dataclasses.replace(
        run,
        models=tuple(models),
        datasets=tuple(card for card in run.datasets if card.name in {one.dataset for one in models}),
        cells=tuple(filter(belongs, run.cells)),
        shifts=tuple(filter(belongs, run.shifts)),
    )


def _check_names(run: StoredRun, where: str) -> None:
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


def _check_words(cell: Cell, where: str) -> None:
    """Refuses attributions for another number of words than the example has."""
    words = {row.example: len(row.words) for row in cell.predictions}
    for row in cell.attributions:
        if row.scores is not None and len(row.scores) != words.get(row.example, len(row.scores)):
            raise UserError(
                f"{where}: {cell.method} has {len(row.scores)} scores for the {words[row.example]} words of "
                f"{row.example!r}; delete its attributions and run again"
            )


def _check_examples(cell: Cell, where: str) -> None:
    """Refuses scores of other examples than the first ones."""
    known = tuple(dict.fromkeys(row.example for row in cell.predictions))
    for column in cell.scores:
        if known and column.complete and column.examples != known[: len(column.examples)]:
            raise UserError(f"{where}: {cell.method} is scored on other examples than were explained; run again")


class _Reader:
    """Reads chunk files, predictions once: all methods of a model share them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scores, self.attributions = ScorePack(folder), AttributionPack(folder)
        self.seen: dict[tuple[str, str], tuple[Any, ...] | None] = {}

    def cell(self, stored: StoredCell, n_columns: int) -> Cell:
        if stored.reason is None and len(stored.scores) != n_columns:
            raise UserError(
                f"{self.folder / 'run.json'}: cell {stored.model} / {stored.dataset} / {stored.method} has "
                f"{len(stored.scores)} score columns, the run has {n_columns}; the file is broken, run again"
            )
        packed = self.attributions.find(_rows_print(self.folder, stored))
        found = Cell(
            model=stored.model,
            dataset=stored.dataset,
            method=stored.method,
            reason=stored.reason,
            predictions=self._rows("predictions", stored.predictions)[0],
            attributions=self._rows("attributions", stored.attributions)[0] if packed is None else packed,
            scores=tuple(self._column(scores) for scores in stored.scores),
        )
        if packed is None:
            _check_words(found, str(self.folder))
        _check_examples(found, str(self.folder))
        return found

    def shift(self, stored: StoredShift) -> Shift:
        rows, _ = self._rows("shifts", stored.keys)
        found = rows[0] if rows else ShiftRow(reason=stored.reason)
        return Shift(
            model=stored.model,
            dataset=stored.dataset,
            operator=stored.operator,
            share=found.share,
            reason=found.reason,
        )

    def _column(self, stored: StoredScores) -> ColumnScores:
        if stored.reason is not None:
            return ColumnScores(reason=stored.reason)
        packed = self.scores.find(fingerprint(self.folder, ("scores", stored.keys))) if stored.keys else None
        if packed is not None:
            return packed
        rows, complete = self._rows("scores", stored.keys)
        return ColumnScores(
            complete=complete,
            examples=tuple(sys.intern(row.example) for row in rows),  # as many as there are scores, but few differ
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
            found = self._read(kind, key, path) if path.is_file() else None
            if kind != "predictions":
                return found
            self.seen[kind, key] = found
        return self.seen[kind, key]

    def _read(self, kind: str, key: str, path: Path) -> tuple[Any, ...]:
        content = load_json(path)
        rows: tuple[Any, ...] = decode(CHUNKS[kind], content, str(path)).rows
        _check_chunk(content, key, rows, str(path))
        return rows
