"""Questionnaires: do explanations help people to predict a model, or to tell the better of two models?

Forward simulation and classifier choice (metrics spec 10). :func:`export` turns a results folder into one page per
group of participants and a key; :mod:`~attrlab.leaderboard.questionnaire_score` scores what they hand in.

The design, both kinds: every group sees every text once, under one condition, and over the groups every text is seen
under every condition (a Latin square over texts sorted by stratum, so that conditions are balanced within strata too).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attrlab.bench.errors import UserError, unknown
from attrlab.bench.store import write_text
from attrlab.leaderboard.board import Board, DatasetCard, ModelCard
from attrlab.leaderboard.load import read
from attrlab.leaderboard.paired import sign_test
from attrlab.leaderboard.questionnaire_key import (
    CHOICE,
    CONTROL,
    KEY_FILE,
    KINDS,
    MODELS,
    SIMULATION,
    Asked,
    Group,
    Item,
    Key,
    Question,
    Results,
    read_key,
    write_key,
)
from attrlab.leaderboard.questionnaire_page import Passage, page, passage
from attrlab.leaderboard.questionnaire_texts import Text, candidates, draw, pick, pick_methods, right_and_labelled

ITEMS = {SIMULATION: 24, CHOICE: 8}
"""Questions per participant, unless told otherwise or there are fewer texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is wanted.

    Attributes:
        kind: ``simulation`` or ``choice``.
        dataset: Data set part, None for the only one.
        models: The model, or two for a choice; empty for the only ones.
        methods: Methods to compare; empty for all.
        items: Questions per participant; None for ``ITEMS`` or as many as there are texts for.
        texts: Texts per question of a choice.
        seed: Of every draw.
    """

    kind: str
    dataset: str | None = None
    models: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    items: int | None = None
    texts: int = 3
    seed: int = 0


def export(folder: Path, out: Path, settings: Settings) -> Key:
    """Writes the pages of a questionnaire to ``out/pages`` and its key to ``out/key.json``; returns the key.

    The same folder and settings give the same files, byte for byte.

    Raises:
        UserError: If the folder cannot be asked this, there are too few texts, or ``out`` holds another questionnaire.
    """
    if settings.kind not in KINDS:
        raise unknown("kind of questionnaire", settings.kind, KINDS)
    board = read(folder)
    _check(board)
    dataset, models = pick(board, settings.dataset, settings.models, 1 if settings.kind == SIMULATION else 2)
    methods = pick_methods(board, dataset, models, settings.methods)
    texts = candidates(board, dataset, models, methods)
    right = right_and_labelled(board, models)
    asked = _asked(models, right)
    rng = np.random.default_rng(settings.seed)
    blocks = _blocks(settings, texts, rng)
    results = Results(
        run=hashlib.sha256((folder / "run.json").read_bytes()).hexdigest(),
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
    )
    simulation = settings.kind == SIMULATION
    items = tuple(_items(blocks, rng, simulation))
    key = Key(
        kind="simulation" if simulation else "choice",
        seed=settings.seed,
        results=results,
        models=asked,
        options=_classes(dataset) if simulation else MODELS,
        conditions=(CONTROL, *methods) if simulation else methods,
        items=items,
        groups=(),
        caution=_caution_simulation(items) if simulation else _caution_choice(right),
    )
    groups = _simulation_groups(key, blocks, rng) if simulation else _choice_groups(key, rng)
    key = key.model_copy(update={"groups": tuple(groups)})
    _write(out, key, dict(zip((item.item for item in key.items), blocks, strict=True)), dataset)
    return key


def _check(board: Board) -> None:
    target = board.suite.explain.get("target", "predicted")
    if target != "predicted":
        raise UserError(f"the folder explains the {target} class; a questionnaire needs explain.target = 'predicted'")
    if board.suite.unit != "word":
        raise UserError(f"the folder explains {board.suite.unit}s; a questionnaire needs unit = 'word'")


def _classes(dataset: DatasetCard) -> tuple[str, ...]:
    if len(set(dataset.labels)) < max(2, len(dataset.labels)):
        raise UserError(f"the classes of {dataset.name} cannot be told apart: {', '.join(dataset.labels) or 'none'}")
    return dataset.labels


def _asked(models: Sequence[ModelCard], right: Sequence[Sequence[bool]]) -> tuple[Asked, ...]:
    """Returns the models with their counts of right answers.

    Raises:
        UserError: If there are two and neither is better.
    """
    asked = tuple(
        Asked(name=model.name, hash=model.hash, n_correct=sum(row), n_labelled=len(row))
        for model, row in zip(models, right, strict=True)
    )
    if len({one.n_correct for one in asked}) < len(asked):
        raise UserError(
            f"{asked[0].name} and {asked[1].name} are right on {asked[0].n_correct} of {asked[0].n_labelled} texts "
            "each, so neither is the better one; choose other models or run more examples"
        )
    return asked


def _caution_simulation(items: Sequence[Item]) -> str:
    wrong = sum(item.correct is False for item in items)
    if wrong > 1:
        return ""
    return f"The model is wrong on {wrong} of these texts: whether people follow a wrong model will hardly show."


def _caution_choice(right: Sequence[Sequence[bool]]) -> str:
    first, second = (sum(a > b for a, b in zip(one, other, strict=True)) for one, other in (right, right[::-1]))
    p = sign_test(first, first + second)
    if p < 0.05:
        return ""
    return (
        f"Which model is better is uncertain: on {first} texts only the first is right, on {second} only the second "
        f"(exact McNemar p = {p:.2g}). Run more examples."
    )


def _blocks(settings: Settings, texts: Sequence[Text], rng: np.random.Generator) -> list[list[Text]]:
    """Returns the texts of every question; those of a choice are answered alike, so that answers tell nothing.

    Raises:
        UserError: If there are too few.
    """
    size = 1 if settings.kind == SIMULATION else settings.texts
    usable = [text for text in texts if len(set(text.answers)) == 1]
    most = len(usable) // size
    items = settings.items or min(ITEMS[settings.kind], most)
    if not 1 <= items <= most:
        alike = "" if settings.kind == SIMULATION else ", that both models answer alike"
        raise UserError(
            f"{max(items, 1)} question{'s' * (items > 1)} of {size} text{'s' * (size > 1)} need "
            f"{max(items, 1) * size} different texts that all methods explained{alike}; the folder has {len(usable)}"
        )
    chosen = draw(usable, items * size, rng)
    return [chosen[start::items] for start in range(items)]


def _items(blocks: Sequence[Sequence[Text]], rng: np.random.Generator, simulation: bool) -> Iterator[Item]:
    """Yields the items of blocks of texts; ids in random order, since that of the blocks tells the answer."""
    for number, block in zip(rng.permutation(len(blocks)), blocks, strict=True):
        yield Item(
            item=f"q{number + 1:02}",
            examples=tuple(text.example for text in block),
            correct=block[0].correct if simulation else None,
        )


def _simulation_groups(key: Key, blocks: Sequence[Sequence[Text]], rng: np.random.Generator) -> Iterator[Group]:
    for shift in range(len(key.conditions)):
        questions = [
            Question(item=item.item, condition=_condition(key, rank, shift), right=block[0].answers[0])
            for rank, (item, block) in enumerate(zip(key.items, blocks, strict=True))
        ]
        yield Group(group=shift + 1, questions=tuple(questions[i] for i in rng.permutation(len(questions))))


def _choice_groups(key: Key, rng: np.random.Generator) -> Iterator[Group]:
    """Yields two groups per method, which see the better model in opposite places."""
    n = len(key.items)
    for shift in range(len(key.conditions)):
        places, order = rng.permutation(np.arange(n) % 2), rng.permutation(n)
        for mirrored in (0, 1):
            questions = [
                Question(
                    item=item.item, condition=_condition(key, rank, shift), right=MODELS[int(places[rank]) ^ mirrored]
                )
                for rank, item in enumerate(key.items)
            ]
            yield Group(group=2 * shift + mirrored + 1, questions=tuple(questions[i] for i in order))


def _condition(key: Key, rank: int, shift: int) -> str:
    return key.conditions[(rank + shift) % len(key.conditions)]


def _write(out: Path, key: Key, texts: dict[str, list[Text]], dataset: DatasetCard) -> None:
    kept = out / KEY_FILE
    if kept.exists() and read_key(kept).id != key.id:
        raise UserError(
            f"{kept} is the key of another questionnaire, without which its answers are lost; use another --out"
        )
    write_text(kept, write_key(key))
    for group in key.groups:
        questions = [
            (question.item, [_passage(key, question, text) for text in texts[question.item]])
            for question in group.questions
        ]
        write_text(out / "pages" / f"group-{group.group}.html", page(key, group.group, questions, dataset))


def _passage(key: Key, question: Question, text: Text) -> Passage:
    """Returns a text as a question shows it: highlighted once, or once per model with the better one in its place."""
    names = [model.name for model in key.models]
    if key.kind == CHOICE and (names[0] == key.better.name) != (question.right == MODELS[0]):
        names.reverse()
    rows = [None if question.condition == CONTROL else text.scores[name, question.condition] for name in names]
    return passage(text, rows, answer=text.answers[0] if key.kind == CHOICE else "")
