"""What the tests of comparisons and of the gate share: boards made in memory, and two folders that start out equal."""

import sys
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored import Folder

from attrlab.bench import cli
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
    Suite,
)

DATASET, MODEL = "lexicon:test", "bert-tiny"
KEY = "lexicon_test-bert-tiny"
COLUMNS = {"comprehensiveness": 0, "sufficiency": 2, "tau_loo": 4, "auprc": 7, "seconds": 10, "forwards": 11}
"""Index in the folders of the first column of a metric."""


def board(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    higher: bool | None = True,
    bounds: tuple[float | None, float | None] = (0.0, 1.0),
    failed: Sequence[int] = (),
    **card: Any,
) -> Board:
    """One model on one data set: scores by method, then metric; NaN has the reason "only one word"."""
    metrics = list(dict.fromkeys(metric for row in values.values() for metric in row))
    examples = tuple(f"e{i}" for i in range(len(next(iter(next(iter(values.values())).values())))))
    rows = tuple(
        AttributionRow(example=one, status="failed" if i in failed else "ok", reason="boom" if i in failed else None)
        for i, one in enumerate(examples)
    )

    def column(found: Sequence[float]) -> ColumnScores:
        numbers = np.array([nan if i in failed else value for i, value in enumerate(found)], dtype=float)
        reasons = tuple("only one word" if np.isnan(value) else None for value in numbers)
        return ColumnScores(examples=examples, values=numbers, reasons=reasons)

    return Board(
        suite=Suite(name="toy", explain={"target": "predicted", "scalar": "contrast"}),
        provenance=Provenance(),
        methods=tuple(MethodCard(name=name, id=name) for name in values),
        metrics=tuple(
            MetricCard(name=name, id=name, higher_is_better=higher, bounds=bounds, **card) for name in metrics
        ),
        columns=tuple(Column(metric=name, operator=None, unit="word") for name in metrics),
        models=(ModelCard(name=MODEL, dataset=DATASET, hash="c0ffee"),),
        datasets=(DatasetCard(name=DATASET, fingerprint="ab12"),),
        cells=tuple(
            Cell(
                model=MODEL,
                dataset=DATASET,
                method=method,
                reason=None,
                predictions=tuple(Prediction(example=one, status="ok") for one in examples),
                attributions=rows,
                scores=tuple(column(row[name]) for name in metrics),
            )
            for method, row in values.items()
        ),
    )


class Pair:
    """Two results folders of one model, four methods and 40 examples, equal until one is edited."""

    def __init__(self, folder: Path) -> None:
        self.new, self.old = (
            Folder(folder / name, models=1, methods=4, examples=40, chunk=40).add(DATASET) for name in ("new", "old")
        )

    def write(self) -> tuple[Path, Path]:
        return self.new.write(), self.old.write()

    def edit(self, method: str, metric: str, change: Any, side: str = "new") -> None:
        """Replaces the value of each example by ``change(index, value)``; None takes it away."""
        name = method.replace("=", "_").replace(":", "_")

        def each(chunk: dict[str, Any]) -> None:
            for i, row in enumerate(chunk["rows"]):
                row["value"] = None if row["value"] is None else change(i, row["value"])
                row["reason"] = row["reason"] if row["value"] is not None else row["reason"] or "taken away"

        getattr(self, side).change("scores", f"{KEY}-{name}-{COLUMNS[metric]}-0", each)


class Command:
    """The command line, called in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.patch, self.capsys = patch, capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Returns the exit code, what was printed, and what was printed as an error."""
        self.patch.setattr(sys, "argv", ["attrlab", *map(str, arguments)])
        self.patch.setenv("COLUMNS", "200")
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (int(ended.value.code or 0), *self.capsys.readouterr())
