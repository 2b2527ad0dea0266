"""Words coloured by their scores, for a few examples: to look at, never to rank by."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from attrlab.bench.types import Floats
from attrlab.leaderboard.board import AttributionRow, Board, Cell, DatasetCard, ModelCard, Prediction
from attrlab.leaderboard.statistics import brief

EXAMPLES = 4
"""Examples shown per model and data set: the first ones, never chosen by their look."""

_STEPS = 9  # shades per colour
_WORDS = 20_000  # coloured words on the page at most, so that it stays small


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it is shown: style classes, its score as text, and whether a second text starts with it."""

    text: str
    style: str
    score: str
    starts_text: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One method's view of an example; ``words`` is empty where ``remark`` says why there is none."""

    method: str
    words: tuple[Word, ...]
    remark: str


@dataclass(frozen=True, slots=True)
class Heatmap:
    """One example: what the model said of it, and one row per method."""

    example: str
    target: str
    label: str
    correct: bool | None
    probability: float | None
    hidden: int
    rows: tuple[Row, ...]


def heatmaps(board: Board, dataset: DatasetCard, model: ModelCard, cells: Sequence[Cell]) -> list[Heatmap]:
    """Returns the heat-maps of the first examples of one model on one data set.

    Args:
        board: The board.
        dataset: The data set part.
        model: The model.
        cells: The cells of the model on it, in the order of the rows.
    """
    examples: dict[str, Prediction] = {}
    for cell in cells:
        examples |= {row.example: row for row in cell.predictions if row.status == "ok"}
    limit = max(24, min(160, _WORDS // (EXAMPLES * max(1, len(board.cells)))))
    found = [(cell, {row.example: row for row in cell.attributions}) for cell in cells]
    signed = {method.name: method.signed for method in board.methods}
    return [
        Heatmap(
            example=prediction.example,
            target=_label(dataset, model, prediction.target),
            label=_label(dataset, model, prediction.label),
            correct=prediction.correct,
            probability=prediction.probability,
            hidden=max(0, len(prediction.words) - limit),
            rows=tuple(
                _row(cell, rows.get(prediction.example), prediction, signed[cell.method], limit) for cell, rows in found
            ),
        )
        for prediction in list(examples.values())[:EXAMPLES]
    ]


def _label(dataset: DatasetCard, model: ModelCard, index: int | None) -> str:
    return "" if index is None else dataset.names(model).get(index, str(index))


def _row(cell: Cell, row: AttributionRow | None, prediction: Prediction, signed: bool, limit: int) -> Row:
    if row is None or row.scores is None:
        reason = cell.reason or (row.reason if row else "not computed yet") or "no scores"
        return Row(cell.method, (), f"{row.status}: {brief(reason)}" if row else brief(reason))
    marks = _marks(prediction)
    styles = shades(row.scores, signed)
    shown = prediction.words[:limit]
    # A text may be longer than what the model read: words without a score stay plain.
    words = tuple(
        Word(
            text=brief(word, 40),
            style=f"{styles[i] if i < len(styles) else ''} {marks[i] if i < len(marks) else ''}".strip(),
            score=f"{row.scores[i]:.3g}" if i < len(row.scores) else "",
            starts_text=0 < i < len(prediction.texts) and prediction.texts[i] != prediction.texts[i - 1],
        )
        for i, word in enumerate(shown)
    )
    return Row(cell.method, words, remark(row.scores))


def shades(scores: Floats, signed: bool) -> list[str]:
    """Returns one style class per word: ``p1``..``p9`` for, ``n1``..``n9`` against, ``u1``..``u9`` magnitude.

    The largest absolute score has shade 9; shade 0, where nothing is to be seen, is the empty class.

    >>> shades(np.array([2.0, -1.0, 0.0]), signed=True)
    ['p9', 'n5', '']
    """
    top = float(np.abs(scores).max(initial=0.0))
    if top == 0.0:
        return [""] * len(scores)
    steps = np.floor(np.abs(scores) / top * _STEPS + 0.5).astype(int)
    kinds = np.where(scores < 0, "n", "p") if signed else np.full(len(scores), "u")
    return [f"{kind}{step}" if step else "" for kind, step in zip(kinds, steps, strict=True)]


def remark(scores: Floats) -> str:
    """Returns what a reader must know before reading a row: no ranking, or one with many ties.

    >>> remark(np.zeros(3)), remark(np.ones(3)), remark(np.array([1.0, 1.0, 2.0, 3.0])), remark(np.arange(3.0))
    ('all zero', 'all equal', '50 % tied', '')
    """
    if len(scores) < 2:
        return ""
    counts = Counter(scores.tolist())
    if len(counts) == 1:
        return "all equal" if scores[0] else "all zero"
    tied = sum(count for count in counts.values() if count > 1) / len(scores)
    return f"{100 * tied:.0f} % tied" if tied > 0.2 else ""


def _marks(prediction: Prediction) -> list[str]:
    """Returns ``r`` for words that most annotators marked, ``q`` for those that fewer did."""
    return ["r" if share > 0.5 else "q" if share else "" for share in _shares(prediction)]


def _shares(prediction: Prediction) -> tuple[float, ...]:
    """Returns the share of annotators who marked each word; empty where nobody was asked."""
    if prediction.weights is not None:
        return prediction.weights
    rows = prediction.rationale or ()
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=False))


def rationale_share(predictions: Iterable[Prediction]) -> float | None:
    """Returns the mean share of words that most annotators marked, None without rationales.

    Over correctly predicted examples with such a word, as plausibility is: it is near what a random order gets there.
    """
    shares = []
    for prediction in predictions:
        marked = [mark == "r" for mark in _marks(prediction)]
        if prediction.correct and any(marked):
            shares.append(sum(marked) / len(marked))
    return float(np.mean(shares)) if shares else None
