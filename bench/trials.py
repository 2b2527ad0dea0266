"""What metrics that train models ask for, and what they get. NumPy only.

Such a metric is a generator like any other, but its questions are trainings: its ``study(field)`` yields sequences of
:class:`Training`, is sent as many :class:`Trained`, and returns :class:`Findings`. Its class says which class is to be
explained (``explains``, "gold" or "predicted"), and its parameters how many texts of the training part are used at most
(``examples``) and how many steps a training takes at most (``steps``). What is asked twice, by whichever method or
metric, is trained once.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from attrlab.bench.store import key_of
from attrlab.bench.types import Bools, Case, Floats, Ints, Json, Score

if TYPE_CHECKING:
    from attrlab.bench.facts import MethodFacts
    from attrlab.bench.plan import Block, Column, Plan
    from attrlab.bench.registry import Component


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Field:
    """The texts that models are trained and tested on, each with one method's explanation by the original model.

    Attributes:
        train: Texts to train on, in an order of which every prefix has the label shares of the whole; the trainer sets
            the first tenth aside to decide when to stop. ``target`` is the class that was explained.
        test: The texts that are scored.
    """

    train: tuple[Case, ...]
    test: tuple[Case, ...]


class Stays(NamedTuple):
    """Which units stay in each training text and in each test text, ``(n_units,)`` each."""

    train: tuple[Bools, ...]
    test: tuple[Bools, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """A model to be trained afresh and tested.

    Attributes:
        seed: Of the initial weights and the order of the texts.
        stays: Which units stay; the others are replaced (operator ``replace``).
        shows: What stands for the units that stay: the words themselves, or one symbol for all (``pattern``).
        student: A small encoder learns the explained classes, rather than the architecture under study the labels.
        marks: Per training text, units that are pointed out to the student; None points out nothing.
        weight: Of the loss of naming these, beside that of the class.
        explain: Explain all texts, as they were shown, by the trained model.
    """

    seed: int
    stays: Stays
    shows: Literal["words", "pattern"] = "words"
    student: bool = False
    marks: tuple[Bools, ...] | None = None
    weight: float = 0.0
    explain: bool = False

    def key(self) -> Json:
        """Returns what of this enters the key of its result; that it is explained changes nothing."""
        return {
            "seed": self.seed,
            "train": _digest(self.stays.train),
            "test": _digest(self.stays.test),
            "shows": self.shows,
            "student": self.student,
            "marks": None if self.marks is None else _digest(self.marks),
            "weight": self.weight,
        }


class Trained(NamedTuple):
    """A trained model's answers.

    Attributes:
        predicted: Class of each test text, ``(n_test,)``.
        seconds: Time that the training took.
        train: Explanation of each training text, ``(n_units,)`` each; empty unless asked for.
        test: The same of the test texts.
    """

    predicted: Ints
    seconds: float = 0.0
    train: tuple[Floats, ...] = ()
    test: tuple[Floats, ...] = ()


class Findings(NamedTuple):
    """What a study found.

    Attributes:
        scores: One per test text.
        details: What a page shows beside the mean, as JSON.
    """

    scores: Sequence[Score]
    details: Json


Study = Generator[Sequence[Training], Sequence[Trained], Findings]
"""A computation that yields trainings, is sent their results, and returns what it found."""


def conduct(study: Study, train: Callable[[Training], Trained]) -> Findings:
    """Runs one study to its end against a plain function; the harness does the same for many at once."""
    try:
        asked = next(study)
        while True:
            asked = study.send([train(one) for one in asked])
    except StopIteration as stop:
        found: Findings = stop.value
        return found


def study_of(plan: "Plan", block: "Block", method: "Component[MethodFacts]", column: "Column") -> Json:
    """Returns what the key of what a metric that trains finds on a block is made of."""
    return {
        "kind": "studies",
        "attributions": [key_of(plan.attributions(block, chunk, method)) for chunk in plan.chunks(block)],
        "training": block.calibration[1],
        "metric": column.metric.key(),
    }


def _digest(masks: Sequence[Bools]) -> str:
    total = blake2b(digest_size=16)
    for mask in masks:
        total.update(len(mask).to_bytes(4, "little") + np.packbits(mask).tobytes())
    return total.hexdigest()
