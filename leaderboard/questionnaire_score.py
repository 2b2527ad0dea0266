"""Scores the answers to a questionnaire: shares with intervals, per condition."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from math import sqrt
from pathlib import Path
from statistics import NormalDist, fmean, median
from typing import Any

import numpy as np

from attrlab.bench.errors import UserError
from attrlab.leaderboard.paired import sign_test
from attrlab.leaderboard.questionnaire_key import CONTROL, SIMULATION, Answers, Key, Question, read_file
from attrlab.leaderboard.statistics import LEVEL, intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer of one participant, judged."""

    participant: str
    item: str
    condition: str
    right: bool
    correct: bool | None
    confidence: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Share:
    """``right`` of ``n`` answers, with the 95 % Wilson interval; None without answers."""

    right: int
    n: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean over texts of the share right under a condition less that of the control, on ``n`` texts with both.

    ``low`` and ``high`` are the 95 % bootstrap interval over texts, None below two texts.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Answers on all texts, or on those where the model is ``right`` or ``wrong``; no difference for the control."""

    model: str
    share: Share
    difference: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came out under one condition.

    Attributes:
        condition: The method, or the control.
        parts: Simulation: the share that predicted the model, on all texts and by whether the model is right.
            Choice: one part, the share that picked the better model.
        p: Choice: two-sided exact binomial p of the share against 1/2, which takes answers as independent.
        participants_better: Choice: participants most of whose answers picked the better model, ...
        participants_decided: ... of those who did not pick both equally often.
        p_participants: Their sign test.
        confidence: Mean from 1 to 4 over the answers that told it.
        seconds: Median over the answers that were timed.
    """

    condition: str
    parts: tuple[Part, ...]
    p: float | None = None
    participants_better: int | None = None
    participants_decided: int | None = None
    p_participants: float | None = None
    confidence: float | None
    seconds: float | None


def wilson(right: int, n: int) -> Share:
    """Returns a share with its 95 % Wilson score interval (metrics spec 12.2).

    >>> wilson(0, 4).low, round(wilson(0, 4).high, 3)
    (0.0, 0.49)
    """
    if n == 0:
        return Share(0, 0, None, None, None)
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, weight = right / n, 1 + z * z / n
    middle, half = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding alone must not keep the interval from reaching 0 or 1.
    low = 0.0 if right == 0 else (middle - half) / weight
    return Share(right, n, share, low, 1.0 if right == n else (middle + half) / weight)


def read_answers(key: Key, paths: Sequence[Path]) -> list[Answers]:
    """Returns the answers in files, each of one participant, whole.

    Raises:
        UserError: If a file is malformed, belongs to another key, or has a missing, double or unknown item or option;
            or if a participant comes twice. No file is changed; leave it out to score the others.
    """
    found: dict[str, Path] = {}
    read = []
    for path in paths:
        answers = read_file(Answers, path)
        if answers.questionnaire != key.id:
            raise UserError(f"{path} answers questionnaire {answers.questionnaire!r}, the key is of {key.id!r}")
        _check_items(key, answers, path)
        if answers.participant in found:
            raise UserError(
                f"participant {answers.participant!r} is in {found[answers.participant]} and in {path}; "
                "give one of the two, or rename one if they are two people"
            )
        found[answers.participant] = path
        read.append(answers)
    return read


def _check_items(key: Key, answers: Answers, path: Path) -> None:
    asked = _questions(key).get(answers.group)
    if asked is None:
        raise UserError(f"{path}: there is no group {answers.group}; the key has groups 1 to {len(key.groups)}")
    seen: set[str] = set()
    for answer in answers.answers:
        if answer.item not in asked:
            raise UserError(f"{path}: there is no item {answer.item!r}")
        if answer.item in seen:
            raise UserError(f"{path}: item {answer.item!r} is answered twice")
        if answer.answer not in key.options:
            raise UserError(f"{path}: {answer.item!r} has answer {answer.answer!r}; allowed: {', '.join(key.options)}")
        seen.add(answer.item)
    missing = sorted(asked.keys() - seen)
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(asked)} items have no answer: {', '.join(missing)}")


def _questions(key: Key) -> dict[int, dict[str, Question]]:
    return {group.group: {question.item: question for question in group.questions} for group in key.groups}


def responses(key: Key, read: Iterable[Answers]) -> list[Response]:
    """Returns every answer with what the key says of it."""
    questions, correct = _questions(key), {item.item: item.correct for item in key.items}
    return [
        Response(
            participant=answers.participant,
            item=answer.item,
            condition=questions[answers.group][answer.item].condition,
            right=answer.answer == questions[answers.group][answer.item].right,
            correct=correct[answer.item],
            confidence=answer.confidence,
            seconds=answer.seconds,
        )
        for answers in read
        for answer in answers.answers
    ]


def outcomes(key: Key, found: Sequence[Response]) -> list[Outcome]:
    """Returns what came out, per condition in the order of the key."""
    of = {name: [one for one in found if one.condition == name] for name in key.conditions}
    judge = _simulation if key.kind == SIMULATION else _choice
    return [judge(name, own, of.get(CONTROL, [])) for name, own in of.items()]


def _simulation(name: str, own: list[Response], control: list[Response]) -> Outcome:
    parts = []
    for label, kept in (("all", (True, False, None)), ("right", (True,)), ("wrong", (False,))):
        mine = [one for one in own if one.correct in kept]
        others = [one for one in control if one.correct in kept]
        difference = None if name == CONTROL else _difference(mine, others)
        parts.append(Part(model=label, share=_share(mine), difference=difference))
    return Outcome(condition=name, parts=tuple(parts), confidence=_confidence(own), seconds=_seconds(own))


def _choice(name: str, own: list[Response], _control: list[Response]) -> Outcome:
    share = _share(own)
    balance = [sum(1 if one.right else -1 for one in of) for of in _by(own, "participant").values()]
    better, decided = sum(each > 0 for each in balance), sum(each != 0 for each in balance)
    return Outcome(
        condition=name,
        parts=(Part(model="all", share=share, difference=None),),
        p=sign_test(share.right, share.n) if share.n else None,
        participants_better=better,
        participants_decided=decided,
        p_participants=sign_test(better, decided) if decided else None,
        confidence=_confidence(own),
        seconds=_seconds(own),
    )


def _share(found: Sequence[Response]) -> Share:
    return wilson(sum(one.right for one in found), len(found))


def _difference(own: Sequence[Response], control: Sequence[Response]) -> Difference:
    mine, others = _by(own, "item"), _by(control, "item")
    pairs = [
        fmean(one.right for one in mine[item]) - fmean(one.right for one in others[item])
        for item in sorted(mine.keys() & others.keys())
    ]
    if not pairs:
        return Difference(0, None, None, None)
    if len(pairs) == 1:
        return Difference(1, pairs[0], None, None)
    low, high = intervals(np.array(pairs)[:, None])[0].tolist()
    return Difference(len(pairs), fmean(pairs), low, high)


def _by(found: Sequence[Response], field: str) -> dict[str, list[Response]]:
    def name(one: Response) -> str:
        return str(getattr(one, field))

    return {value: list(group) for value, group in groupby(sorted(found, key=name), key=name)}


def _confidence(found: Sequence[Response]) -> float | None:
    told = [one.confidence for one in found if one.confidence is not None]
    return fmean(told) if told else None


def _seconds(found: Sequence[Response]) -> float | None:
    timed = [one.seconds for one in found if one.seconds is not None]
    return median(timed) if timed else None


def record(key: Key, found: Sequence[Response]) -> dict[str, Any]:
    """Returns everything as one JSON object."""
    return {
        "questionnaire": key.id,
        "kind": key.kind,
        "dataset": key.results.dataset,
        "models": [model.model_dump() for model in key.models],
        "options": list(key.options),
        "caution": key.caution,
        "participants": len({one.participant for one in found}),
        "items": len({one.item for one in found}),
        "answers": len(found),
        "outcomes": [asdict(one) for one in outcomes(key, found)],
    }
