"""The records that methods, metrics and the harness exchange. NumPy only: this module never imports torch."""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from attrlab.bench import operators
from attrlab.bench.scalars import scalar
from attrlab.bench.seeds import generator

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

SCHEMA = 1
"""Version of everything that is stored; part of every key."""

Ask = operators.Ask

T = TypeVar("T")
Asker = Generator[Ask, Floats, T]
"""A computation that yields questions, is sent class logits ``(n_questions, n_classes)`` and returns a T."""


def drive(asker: "Asker[T]", answer: Callable[[Ask], Floats]) -> T:
    """Runs one asker to its end against a plain function; the engine does the same for hundreds at once.

    Args:
        asker: The computation.
        answer: Maps a batch of questions to logits ``(n_questions, n_classes)``.

    Returns:
        What the asker returns.
    """
    try:
        ask = next(asker)
        while True:
            ask = asker.send(answer(ask))
    except StopIteration as stop:
        result: T = stop.value
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an attribution cost.

    Attributes:
        seconds: Own time plus the share, by tokens, of merged batches.
        forwards: Rows asked of the model, before identical questions were merged.
        backwards: Rows of backward passes.
        unique_forwards: Rows that were really computed for this asker first.
        peak_memory: Highest resident memory of the process so far, in bytes.
    """

    seconds: float = 0.0
    forwards: int = 0
    backwards: int = 0
    unique_forwards: int = 0
    peak_memory: int = 0


class Estimate(NamedTuple):
    """What a black-box method may return in place of bare scores.

    Attributes:
        scores: One per unit, ``(n_units,)``.
        errors: Standard error of each score, ``(n_units,)``, or None.
        stats: Diagnostics that are stored with the scores.
    """

    scores: Floats
    errors: Floats | None = None
    stats: Mapping[str, float] = MappingProxyType({})


class Score(NamedTuple):
    """The value of a metric on one example; NaN carries the reason why there is no number."""

    value: float
    reason: str | None = None

    @classmethod
    def undefined(cls, reason: str) -> "Score":
        """Returns a NaN score with its reason."""
        return cls(math.nan, reason)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replica:
    """An explanation made again, with something changed: the seed, the input or the model.

    Attributes:
        kind: What was changed, one of the kinds of ``bench.replicas``.
        index: Which change of that kind, from 1.
        scores: Attribution per unit of the input that was explained, all finite.
        units: Per unit of that input, the unit of the example that it stands for, -1 for a substituted one; None where
            the units are the same.
        distance: L2 distance of the word embeddings from those of the example, NaN where ids or model were changed.
        kept: Whether the model predicts the same class as on the example.
    """

    kind: str
    index: int
    scores: Floats
    units: Ints | None = None
    distance: float = math.nan
    kept: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """Everything a metric may look at for one example and one attribution.

    Attributes:
        scores: Attribution per unit, ``(n_units,)``, all finite.
        signed: Whether positive means "supports the target" (else magnitude only).
        target: Class that was explained: the prediction on the full input, frozen.
        label: Gold label, or None.
        correct: Whether the model predicts the gold label; None without one.
        tie_orders: Permutations of the units shared by all methods, ``(n_permutations, n_units)``: ties in
            ``scores`` are broken by them, never by position (metrics spec 0.3).
        operator: Removal operator under which an erasure metric is asked; None for the others.
        rationales: Units marked by each annotator, ``(n_annotators, n_units)``; None where nobody annotated.
        weights: Share of annotators who marked each unit, ``(n_units,)``, where it is not known who marked what.
        rationale_share: Mean share of rationale words over the data set part, for ``avg_k``; None without.
        replicates: The same example explained again with something changed, see :class:`Replica`.
        cost: Cost of the attribution.
        example: Id of the example.
        texts: The text that each unit is in, ``(n_units,)``; None where there is one text.
        scalar: Name of the scalar that was explained, see :mod:`attrlab.bench.scalars`.
        stats: Diagnostics that the method stored with the scores.
    """

    scores: Floats
    signed: bool
    target: int
    label: int | None
    tie_orders: Ints
    operator: str | None = None
    rationales: Bools | None = None
    weights: Floats | None = None
    rationale_share: float | None = None
    replicates: tuple[Replica, ...] = ()
    cost: Cost = field(default_factory=Cost)
    example: str = ""
    correct: bool | None = None
    texts: Ints | None = None
    scalar: str = "contrast"
    stats: Mapping[str, float] = field(default_factory=dict)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.scores)

    def generator(self, *purpose: Any) -> np.random.Generator:
        """Returns a generator that depends on the example and the purpose alone: all methods get the same draws."""
        return generator("metric", self.example, *purpose)

    def ask(self, keep: Bools) -> "Asker[Floats]":
        """Asks for logits ``(n_questions, n_classes)`` with only the kept units, under this case's operator.

        For an operator that is random, those of the mean probabilities over its draws.
        """
        ask = Ask.every_draw(keep, self.operator)
        return ask.mixture((yield ask))

    def probabilities(self, keep: Bools) -> "Asker[Floats]":
        """Asks for the probability of the target class with the kept units, ``(n_questions,)``, in [0, 1]."""
        logits = yield from self.ask(keep)
        return scalar("prob", logits, self.target)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Game:
    """What a black-box method may ask about one example (a cooperative game over its units).

    Attributes:
        n_units: Number of units m.
        target: Class to explain.
        scalar: Name of the explained scalar, see :func:`scalar`.
        operator: Removal operator; None is the suite's.
        words: What each unit reads, ``(n_units,)``; empty where nobody knows.
    """

    n_units: int
    target: int
    scalar: str = "contrast"
    operator: str | None = None
    words: tuple[str, ...] = ()

    def values(self, keep: npt.ArrayLike) -> "Asker[Floats]":
        """Asks for the explained scalar with only the kept units present; its mean over an operator's draws.

        Args:
            keep: Boolean, ``(n_questions, n_units)``; True means the unit stays.

        Returns:
            float64 of shape ``(n_questions,)`` (through ``yield from``).
        """
        ask = Ask.every_draw(np.asarray(keep, dtype=bool), self.operator)
        logits = yield ask
        return ask.mean(scalar(self.scalar, logits, self.target))


Json = dict[str, Any]
"""A JSON object."""
