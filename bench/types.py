"""The records that methods, metrics and the harness exchange. NumPy only: this module never imports torch."""

import math
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from attrlab.bench import operators
from attrlab.bench.errors import UserError
from attrlab.bench.parses import Parse, check_parses
from attrlab.bench.scalars import scalar

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

Span = tuple[int, int]
"""Half-open character range ``[start, end)`` of one text."""

TextSpans = tuple[tuple[Span, ...], ...]
"""Spans of one annotator: one tuple of spans per text of the example."""

SCHEMA = 1
"""Version of everything that is stored; part of every key."""


def words(text: str) -> tuple[Span, ...]:
    r"""Returns the spans of the maximal runs of non-white-space characters (methods spec 0.5).

    >>> words("not  good")
    ((0, 3), (5, 9))
    """
    return tuple(match.span() for match in re.finditer(r"\S+", text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One input of a data set.

    Attributes:
        id: Unique and stable inside its data set part.
        texts: One text, or two for a pair task. An empty text is allowed (it is skipped with a reason).
        label: Index into the data set's label names, or None where the source has none.
        rationales: Per annotator, per text, the character spans that justify ``label``; None where nobody
            annotated. An annotator who marked nothing is an annotator with empty tuples.
        parses: Per text its dependency parse, or None; None where no text has one.

    Raises:
        UserError: If a rationale span lies outside its text, or there are not one or two texts.
    """

    id: str
    texts: tuple[str, ...]
    label: int | None
    rationales: tuple[TextSpans, ...] | None = None
    parses: tuple[Parse | None, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.texts) not in (1, 2):
            raise UserError(f"example {self.id!r}: {len(self.texts)} texts; one or two are allowed")
        for per_text in self.rationales or ():
            if len(per_text) != len(self.texts):
                raise UserError(f"example {self.id!r}: a rationale marks {len(per_text)} texts of {len(self.texts)}")
            for text, spans in zip(self.texts, per_text, strict=True):
                self._check_spans(text, spans)
        check_parses(self.texts, self.parses)

    def _check_spans(self, text: str, spans: tuple[Span, ...]) -> None:
        for start, end in spans:
            if not 0 <= start < end <= len(text):
                raise UserError(
                    f"example {self.id!r}: rationale span [{start}, {end}) is outside the text "
                    f"of {len(text)} characters; give 0 <= start < end <= {len(text)}"
                )


class Word(NamedTuple):
    """A canonical word: which text of the example it is in, and its span there."""

    text: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """One example as a model's tokenizer sees it.

    Attributes:
        example: The example.
        ids: Token ids with special tokens, ``(n_tokens,)``.
        segments: Segment ids (all 0 where the model has none), ``(n_tokens,)``.
        special: True for tokens added by the tokenizer's template: never attributed, never erased.
        units: Index of the unit each token belongs to, -1 for special tokens, ``(n_tokens,)``.
        words: The canonical word of each unit; at token level the word that holds the token. ``(n_units,)``
        dropped: Number of words lost by truncation to the model's length.
        marks: What the model's head reads beside the ids, ``(K, n_tokens)``; None for classifiers.
    """

    example: Example
    ids: Ints
    segments: Ints
    special: Bools
    units: Ints
    words: tuple[Word, ...]
    dropped: int = 0
    marks: Ints | None = None

    @property
    def n_units(self) -> int:
        """Number of units that can be attributed (m in the specification)."""
        return len(self.words)

    @property
    def readings(self) -> tuple[str, ...]:
        """What each unit reads, ``(n_units,)``; at token level the whole word that holds the token."""
        return tuple(self.example.texts[word.text][word.start : word.end] for word in self.words)

    def rationale(self, spans: TextSpans) -> Bools:
        """Returns which units a rationale covers, ``(n_units,)``.

        A word is covered if the rationale overlaps it in a character but space and punctuation (metrics spec 4.1).
        """
        covered = [
            any(
                char.isalnum()
                for start, end in spans[word.text]
                for char in self.example.texts[word.text][max(start, word.start) : min(end, word.end)]
            )
            for word in self.words
        ]
        return np.array(covered, dtype=bool)


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
class Case:
    """Everything a metric may look at for one example and one attribution.

    Attributes:
        scores: Attribution per unit, ``(n_units,)``, all finite.
        signed: Whether positive means "supports the target" (else magnitude only).
        target: Class that was explained: the prediction on the full input, frozen.
        label: Gold label, or None.
        tie_orders: Permutations of the units shared by all methods, ``(n_permutations, n_units)``: ties in
            ``scores`` are broken by them, never by position (metrics spec 0.3).
        operator: Removal operator under which an erasure metric is asked; None for the others.
        rationales: Units marked by each annotator, ``(n_annotators, n_units)``; None where nobody annotated.
        rationale_share: Mean share of rationale words over the data set part, for ``avg_k``; None without.
        replicates: Attributions of the same example and target under other seeds or noised inputs.
        cost: Cost of the attribution.
    """

    scores: Floats
    signed: bool
    target: int
    label: int | None
    tie_orders: Ints
    operator: str | None = None
    rationales: Bools | None = None
    rationale_share: float | None = None
    replicates: tuple[Floats, ...] = ()
    cost: Cost = field(default_factory=Cost)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.scores)

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
