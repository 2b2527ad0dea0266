"""Means by predicted class, and by whether the model was right: a plain mean may hide what only one of them shows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from attrlab.bench.types import Floats
from attrlab.leaderboard.board import Board, Cell, Column, ColumnScores

OUTCOMES = {True: "correct", False: "wrong"}
"""Names of the strata by whether the model was right."""


@dataclass(frozen=True, slots=True)
class Part:
    """The mean of the scored examples of a stratum, None if there are none, and their number."""

    mean: float | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Strata:
    """One method in one column, by stratum.

    Attributes:
        classes: By predicted class; every class that the model predicts here is in it.
        outcomes: By ``correct`` and ``wrong``; empty where the right class is not known.
        macro: Mean of the classes' means, None if a class has none.
    """

    classes: dict[str, Part] = field(default_factory=dict)
    outcomes: dict[str, Part] = field(default_factory=dict)
    macro: float | None = None

    def parts(self) -> list[tuple[str, Part]]:
        """Returns all strata by name, the macro average between classes and outcomes."""
        average = [("macro", Part(self.macro, sum(part.n for part in self.classes.values())))]
        return [*self.classes.items(), *(average if self.classes else []), *self.outcomes.items()]


def means(values: Floats, labels: Sequence[str | None], names: Sequence[str]) -> dict[str, Part]:
    """Returns the mean of each stratum.

    >>> means(np.array([1.0, 2.0, 4.0, np.nan]), ["a", "b", "b", "a"], ["a", "b", "c"])
    {'a': Part(mean=1.0, n=1), 'b': Part(mean=3.0, n=2), 'c': Part(mean=None, n=0)}

    Args:
        values: ``(n_examples,)``, NaN where there is none.
        labels: Stratum of each example, None for none.
        names: The strata, in order.
    """
    found = {}
    for name in names:
        own = values[np.array([label == name for label in labels], dtype=bool) & ~np.isnan(values)]
        found[name] = Part(float(own.mean()) if len(own) else None, len(own))
    return found


def macro(classes: dict[str, Part]) -> float | None:
    """Returns the mean of the classes' means, each class counting the same; None if one has no mean.

    >>> macro({"a": Part(1.0, 30), "b": Part(0.0, 10)}), macro({"a": Part(1.0, 30), "b": Part(None, 0)})
    (0.5, None)
    """
    found = [part.mean for part in classes.values() if part.mean is not None]
    return sum(found) / len(found) if found and len(found) == len(classes) else None


@lru_cache(maxsize=1)
def stratified(board: Board) -> dict[tuple[str, str, str, Column], Strata]:
    """Returns the strata by model, data set, method and column of everything that has values."""
    found = {}
    blocks: dict[tuple[str, str], list[Cell]] = {}
    for cell in board.cells:
        blocks.setdefault((cell.model, cell.dataset), []).append(cell)
    for (model, dataset), cells in blocks.items():
        classes, outcomes = _labels(board, model, dataset, cells)
        for cell in cells:
            for column, scores in zip(board.columns, cell.scores, strict=False):
                if scores.complete and scores.reason is None:
                    found[model, dataset, cell.method, column] = _strata(scores, classes, outcomes)
    return found


def _labels(board: Board, model: str, dataset: str, cells: Sequence[Cell]) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the predicted class of each example, in order of the classes, and whether it is right, where known."""
    rows = next((cell.predictions for cell in cells if cell.predictions), ())
    card = next(one for one in board.models if (one.name, one.dataset) == (model, dataset))
    names = next(one for one in board.datasets if one.name == dataset).names(card)
    known = sorted((row.target, row.example) for row in rows if row.target is not None)
    classes = {example: names.get(target, str(target)) for target, example in known}
    outcomes = {row.example: OUTCOMES[row.correct] for row in rows if row.correct is not None}
    return classes, outcomes


def _strata(scores: ColumnScores, classes: dict[str, str], outcomes: dict[str, str]) -> Strata:
    by_class = means(
        scores.values, [classes.get(example) for example in scores.examples], list(dict.fromkeys(classes.values()))
    )
    by_outcome = means(
        scores.values,
        [outcomes.get(example) for example in scores.examples],
        [name for name in OUTCOMES.values() if name in outcomes.values()],
    )
    return Strata(classes=by_class, outcomes=by_outcome, macro=macro(by_class))
