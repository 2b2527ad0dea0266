"""Which texts of a results folder a questionnaire may show, and which it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from attrlab.bench.errors import UserError, unknown
from attrlab.bench.types import Floats
from attrlab.leaderboard.board import Board, DatasetCard, ModelCard, Prediction

Scores = dict[tuple[str, str], dict[str, Floats]]
"""Per model and method: per example, its scores."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """An example that every model answered and every method explained.

    Attributes:
        example: Its id.
        words: Its words, as many as the models read.
        texts: Which of its texts each word is in.
        answers: Each model's answer.
        correct: Whether the first model's answer is the gold label, None without one.
        scores: Per model and method, one number per word.
    """

    example: str
    words: tuple[str, ...]
    texts: tuple[int, ...]
    answers: tuple[str, ...]
    correct: bool | None
    scores: dict[tuple[str, str], Floats]

    @property
    def stratum(self) -> tuple[str, str]:
        """What the drawn texts are balanced over: the first model's answer and whether it is right."""
        return self.answers[0], str(self.correct)


def candidates(board: Board, dataset: DatasetCard, models: Sequence[ModelCard], methods: Sequence[str]) -> list[Text]:
    """Returns the texts that can be shown, in stored order, equal ones once.

    Args:
        board: What was read.
        dataset: The data set part.
        models: One model, or two that must have read the same words.
        methods: Names of methods.
    """
    scores, seen = _scores(board, dataset), set()
    answered = [_answered(board, model) for model in models]
    names = [dataset.names(model) for model in models]
    pairs = [(model.name, method) for model in models for method in methods]
    found = []
    for example, first in answered[0].items():
        rows = [of.get(example) for of in answered]
        mine = {pair: scores.get(pair, {}).get(example) for pair in pairs}
        whole = {pair: row for pair, row in mine.items() if row is not None and len(row) == len(first.words)}
        if any(row is None or row.words != first.words for row in rows) or len(whole) < len(pairs):
            continue
        answers = [of.get(row.target) for of, row in zip(names, rows, strict=True) if row and row.target is not None]
        kept = tuple(answer for answer in answers if answer is not None)
        if len(kept) == len(models) and first.words not in seen:
            seen.add(first.words)
            found.append(
                Text(
                    example=example,
                    words=first.words,
                    texts=first.texts,
                    answers=kept,
                    correct=first.correct,
                    scores=whole,
                )
            )
    return found


def right_and_labelled(board: Board, models: Sequence[ModelCard]) -> list[list[bool]]:
    """Returns, per model, whether it is right on each example that has a label and that all models answered."""
    answered = [_answered(board, model) for model in models]
    shared = [name for name in answered[0] if all(name in of and of[name].correct is not None for of in answered)]
    return [[bool(of[name].correct) for name in shared] for of in answered]


def draw(texts: Sequence[Text], count: int, rng: np.random.Generator) -> list[Text]:
    """Returns ``count`` texts (or all), as equally many of every stratum as there are, sorted by stratum."""
    strata: dict[tuple[str, str], list[Text]] = {}
    for index in rng.permutation(len(texts)):
        strata.setdefault(texts[index].stratum, []).append(texts[index])
    rounds = zip_longest(*strata.values())
    chosen = [text for each in rounds for text in each if text is not None][:count]
    return sorted(chosen, key=lambda text: text.stratum)


def pick(board: Board, dataset: str | None, models: Sequence[str], count: int) -> tuple[DatasetCard, list[ModelCard]]:
    """Returns the data set part and the ``count`` models that were named, or the only ones there are.

    Raises:
        UserError: If a name is unknown, or none was given and there is a choice.
    """
    datasets = {card.name: card for card in board.datasets}
    if dataset is not None and dataset not in datasets:
        raise unknown("data set of the folder", dataset, datasets)
    if dataset is None and len(datasets) != 1:
        raise UserError(f"the folder has {len(datasets)} data sets; add --dataset NAME, one of: {', '.join(datasets)}")
    card = datasets[dataset or next(iter(datasets))]
    known = {model.name: model for model in board.models if model.dataset == card.name}
    for name in models:
        if name not in known:
            raise unknown(f"model on {card.name}", name, known)
    names = list(dict.fromkeys(models)) or list(known)
    if len(names) != count:
        raise UserError(
            f"this questionnaire is about {count} model{'s' * (count > 1)}, not {len(names)}; "
            f"give --model NAME{' twice' * (count > 1)}, of: {', '.join(known)}"
        )
    return card, [known[name] for name in names]


def pick_methods(
    board: Board, dataset: DatasetCard, models: Sequence[ModelCard], methods: Sequence[str]
) -> tuple[str, ...]:
    """Returns the named methods, or all that explained the models, in the folder's order.

    Raises:
        UserError: If a method was not run on the models, or none was.
    """
    scores = _scores(board, dataset)
    known = [method.name for method in board.methods if all(scores.get((model.name, method.name)) for model in models)]
    for name in methods:
        if name not in known:
            raise unknown("method with explanations", name, known)
    if not known:
        raise UserError(f"no method explained {' and '.join(model.name for model in models)} on {dataset.name}")
    return tuple(dict.fromkeys(methods)) or tuple(known)


def _scores(board: Board, dataset: DatasetCard) -> Scores:
    return {
        (cell.model, cell.method): {row.example: row.scores for row in cell.attributions if row.scores is not None}
        for cell in board.cells
        if cell.dataset == dataset.name
    }


def _answered(board: Board, model: ModelCard) -> dict[str, Prediction]:
    """Returns the model's predictions by example; all methods of a model share them."""
    return {
        row.example: row
        for cell in board.cells
        if (cell.model, cell.dataset) == (model.name, model.dataset)
        for row in cell.predictions
        if row.status == "ok"
    }
